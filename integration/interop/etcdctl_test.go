package interop_test

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/integration/etcdproc"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
)

// etcdctl is run as a process of its own: this is all that its main function does.
func init() { etcdproc.Child("etcdctl", ctlv3.MustStart) }

// etcdctl starts it for the test's time.
func etcdctl(t *testing.T, args ...string) *etcdproc.Process {
	t.Helper()
	p, err := etcdproc.Spawn(etcdproc.Command{
		Child: "etcdctl",
		Args:  append([]string{"--endpoints=" + etcdtest.Endpoints()[0]}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// says waits for a line that etcdctl writes.
func says(t *testing.T, p *etcdproc.Process, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	rest, err := p.Expect(ctx, prefix)
	if err != nil {
		t.Fatalf("etcdctl does not say %q: %v\n%s", prefix, err, p.Stderr())
	}
	return rest
}

// interrupt ends etcdctl as a person does.
func interrupt(t *testing.T, p *etcdproc.Process) {
	t.Helper()
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
}

func TestEtcdctlLockAndOursExcludeEachOther(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := open(t, cli)
	for what, m := range map[string]lock.Mutex{
		"a mutex": lock.NewMutex(s, name), "a reader": lock.NewRWMutex(s, name).Reader(), "a writer": lock.NewRWMutex(s, name).Writer(),
	} {
		ours, err := m.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		theirs := etcdctl(t, "lock", name)
		etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
		if owners, err := lock.Inspect(t.Context(), cli, name); err != nil || !owners[0].Holds || owners[1].Holds || owners[0].Key != ours.Guard().Key {
			t.Errorf("%s: %+v (%v)", what, owners, err)
		}
		if err := ours.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		says(t, theirs, name+"/") // it holds
		if _, err := m.TryLock(t.Context()); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("%s beside etcdctl's lock: %v", what, err)
		}
		got := make(chan error, 1)
		go func() {
			h, err := m.Lock(t.Context())
			if err == nil {
				err = h.Unlock(t.Context())
			}
			got <- err
		}()
		etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
		select {
		case err := <-got:
			t.Errorf("%s did not wait for etcdctl's lock: %v", what, err)
		default:
		}
		interrupt(t, theirs)
		if err := etcdtest.Receive(t, soon, what, got); err != nil {
			t.Errorf("%s after etcdctl's lock: %v", what, err)
		}
		etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
	}
}

func TestEtcdctlElectAndOursStandInOneLineAndObserveEachOther(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	s := open(t, cli)
	ours, err := election.Campaign(t.Context(), s, name, "ours")
	if err != nil {
		t.Fatal(err)
	}
	listener := etcdctl(t, "elect", "--listen", name)
	says(t, listener, "ours")
	if err := ours.Proclaim(t.Context(), "ours, again"); err != nil {
		t.Fatal(err)
	}
	says(t, listener, "ours, again")
	theirs := etcdctl(t, "elect", name, "theirs")
	etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
	if err := ours.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(t, theirs, "theirs") // it leads
	says(t, listener, "theirs")

	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for leader, err := range election.Observe(ctx, cli, name) {
		if err != nil {
			t.Error(err)
		}
		if leader.Value == "theirs" {
			break
		}
	}
	elected := make(chan error, 1)
	go func() {
		term, err := election.Campaign(ctx, s, name, "ours")
		if err == nil {
			err = term.Resign(ctx)
		}
		elected <- err
	}()
	etcdtest.WaitKeys(t, soon, cli, name+"/", 2)
	interrupt(t, theirs)
	if err := etcdtest.Receive(t, soon, "ours after theirs", elected); err != nil {
		t.Error(err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}
