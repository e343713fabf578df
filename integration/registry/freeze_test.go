package registry_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/registry"
)

func init() { etcdproc.Child("registrant", registrant) }

// registrant is a process that registers under the prefix and at the endpoint in its arguments, says so, and waits to
// be told the end.
func registrant() {
	cli, err := clientv3.New(clientv3.Config{Endpoints: os.Args[2:], Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	r, err := registry.Register(context.Background(), cli, mail("a"), &registry.Options{Prefix: os.Args[1], Session: short})
	if err != nil {
		panic(err)
	}
	fmt.Println("registered", r.Revision())
	var word string
	_, _ = fmt.Scan(&word) // or the end of the input
	if err := r.Close(context.Background()); err != nil {
		panic(err)
	}
}

// F7: a process that was frozen for longer than its TTL is gone meanwhile, and back within a second of its waking up; one
// that is killed is gone after its TTL.
func TestAFrozenProcessIsGoneAndComesBackWhenItWakes(t *testing.T) {
	t.Parallel()
	cli, prefix := etcdtest.Client(t), under(t)
	key := prefix + "/mail/a"
	p, err := etcdproc.Spawn(etcdproc.Command{Child: "registrant", Args: append([]string{prefix}, etcdtest.Endpoints()...)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := p.Expect(ctx, "registered"); err != nil {
		t.Fatal(err)
	}
	before := get(t, cli, key)
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitGone(t, shortTTL+2*time.Second, cli, key)
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	awake := time.Now()
	after := etcdtest.WaitKey(t, repaired, cli, key).Kvs[0]
	t.Logf("back %v after it woke up", time.Since(awake))
	if after.Lease == before.Lease || string(after.Value) != string(before.Value) {
		t.Errorf("%v became %v", before, after)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	etcdtest.WaitGone(t, shortTTL+2*time.Second, cli, key)
}
