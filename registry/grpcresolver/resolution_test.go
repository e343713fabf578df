package grpcresolver

import (
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdkit/etcdkit/registry"
)

// ear is the gRPC that a resolution tells; it refuses lists as a balancer does.
type ear struct {
	resolver.ClientConn
	told []string // "a b" for a list, "error: ..." for an error
}

func (e *ear) UpdateState(s resolver.State) error {
	var all []string
	for _, endpoint := range s.Endpoints {
		i, _ := InstanceOf(endpoint)
		all = append(all, i.ID)
	}
	slices.Sort(all)
	e.told = append(e.told, "["+strings.Join(all, " ")+"]")
	return errors.New("give me another list")
}

func (e *ear) ReportError(err error) { e.told = append(e.told, "error: "+err.Error()) }

// hears fails the test unless exactly this was told since the last time.
func (e *ear) hears(t *testing.T, want ...string) {
	t.Helper()
	if !slices.EqualFunc(e.told, want, strings.HasPrefix) {
		t.Errorf("gRPC is told %q, want %q", e.told, want)
	}
	e.told = nil
}

func resolve(b *builder) (*resolution, *ear) {
	e := &ear{}
	return &resolution{builder: b, service: "mail", cc: e, seed: maphash.MakeSeed()}, e
}

func snapshot(source registry.Source, instances ...*registry.Instance) registry.Snapshot {
	return registry.Snapshot{Source: source, Instances: instances}
}

func TestGRPCIsToldOfChangesOnly(t *testing.T) {
	r, e := resolve(&builder{})
	a, b := instance("a", 1), instance("b", 2)
	r.take(snapshot(registry.Live, a, b))
	e.hears(t, "[a b]")
	r.take(snapshot(registry.Stale, a, b))
	r.take(snapshot(registry.Live, a, b))
	r.take(snapshot(registry.Live, instance("a", 1), b, in(registry.Starting, instance("c", 3))))
	e.hears(t)
	heavier := instance("a", 1)
	heavier.Weight = 7
	r.take(snapshot(registry.Live, heavier, b))
	e.hears(t, "[a b]")
	r.take(snapshot(registry.Live, heavier, in(registry.Draining, instance("b", 2)), instance("c", 3)))
	e.hears(t, "[a c]")
}

func TestOnlyALiveViewRemovesAnAddress(t *testing.T) {
	r, e := resolve(&builder{})
	a, b, c := instance("a", 1), instance("b", 2), instance("c", 3)
	r.take(snapshot(registry.Disk, a))
	e.hears(t, "[a]")
	r.take(snapshot(registry.Live, a, b))
	e.hears(t, "[a b]")
	for _, source := range []registry.Source{registry.Stale, registry.Disk} {
		r.take(snapshot(source))
		r.take(snapshot(source, b))
		r.take(snapshot(source, in(registry.Draining, instance("a", 1)), b))
	}
	e.hears(t)
	r.take(snapshot(registry.Stale, b, c))
	e.hears(t, "[a b c]")
	r.take(snapshot(registry.Live, c))
	e.hears(t, "[c]")
	r.take(snapshot(registry.Live))
	e.hears(t, "[]", `error: grpcresolver: service "mail" has no ready instance (live: 0 registered`)
}

func TestAServiceWithoutReadyInstancesIsAnErrorThatSaysWhy(t *testing.T) {
	r, e := resolve(&builder{})
	r.take(snapshot(registry.Live))
	// No empty list before the first good one: it would have a balancer begin that hides the error.
	e.hears(t, `error: grpcresolver: service "mail" has no ready instance (live: 0 registered`)
	r.take(snapshot(registry.Live))
	e.hears(t)
	starting, draining := in(registry.Starting, instance("a", 1)), in(registry.Draining, instance("b", 2))
	r.take(snapshot(registry.Live, starting, draining, in(registry.Draining, instance("c", 3))))
	e.hears(t, `error: grpcresolver: service "mail" has no ready instance (live: 3 registered, 1 starting, 2 draining)`)
	r.take(snapshot(registry.Live, instance("a", 1), draining))
	e.hears(t, "[a]")
	r.take(snapshot(registry.Live, draining))
	e.hears(t, "[]", "error: ")
	r.take(snapshot(registry.Live, instance("a", 1), draining))
	r.take(snapshot(registry.Live, draining))
	e.hears(t, "[a]", "[]", "error: ")
}

func TestWithoutEtcdAConnectionTakesWhatTheOneBeforeItHad(t *testing.T) {
	b := &builder{}
	why := errors.New("etcd is away")
	first, e := resolve(b)
	first.bridge(why)
	first.bridge(why)
	e.hears(t, "error: etcd is away")
	first.take(snapshot(registry.Live, instance("a", 1), instance("b", 2)))
	e.hears(t, "[a b]")

	second, e := resolve(b)
	second.bridge(why)
	second.bridge(why)
	e.hears(t, "[a b]")
	second.take(snapshot(registry.Disk, instance("c", 3)))
	e.hears(t, "[a b c]")
	second.take(snapshot(registry.Live, instance("c", 3)))
	e.hears(t, "[c]")

	awake, e := resolve(b) // with a view that begins with less than that one knew
	awake.take(snapshot(registry.Stale, instance("d", 4)))
	e.hears(t, "[c d]")

	other, e := resolve(b)
	other.service = "web"
	other.bridge(why)
	e.hears(t, "error: etcd is away")
}

func TestWhatEtcdHasSaidToBeGoneIsNotTakenUpAgain(t *testing.T) {
	b := &builder{}
	lagging, _ := resolve(b)
	lagging.take(snapshot(registry.Live, instance("a", 1)))

	r, e := resolve(b)
	r.take(snapshot(registry.Live))
	e.hears(t, "error: ")
	next, nextEar := resolve(b)
	next.bridge(errors.New("etcd is away"))
	nextEar.hears(t, "error: etcd is away")

	lagging.take(snapshot(registry.Live, instance("a", 1)))
	r.take(snapshot(registry.Stale))
	r.take(snapshot(registry.Stale, instance("b", 2)))
	e.hears(t, `error: grpcresolver: service "mail" has no ready instance (stale: 0`, "[b]")
}
