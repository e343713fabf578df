package etcdtest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// childEnv makes this binary, run again by a test, do one bad thing in TestChild.
const childEnv = "ETCDTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "no main" {
		os.Exit(m.Run())
	}
	etcdtest.Main(m)
}

// TestChild is what the other tests here run in a process of its own.
func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "":
		t.Skip("only in a child process")
	case "goroutine":
		etcdtest.Client(t)
		go func() { select {} }()
	case "client":
		if _, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Endpoints()}); err != nil {
			t.Fatal(err)
		}
	case "watch":
		// A cluster of its own was stopped under it: the watch goes on for ever.
		c := etcdtest.New(t, nil)
		cli, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()})
		if err != nil {
			t.Fatal(err)
		}
		<-cli.Watch(context.Background(), "a", clientv3.WithCreatedNotify())
	case "clean", "no main":
		if _, err := etcdtest.Client(t).Put(t.Context(), etcdtest.Prefix(t), ""); err != nil {
			t.Fatal(err)
		}
		c := etcdtest.New(t, &etcdtest.Options{Members: 3})
		if _, err := c.Link(c.Leader()).Client().Put(t.Context(), "a", ""); err != nil {
			t.Fatal(err)
		}
	case "fault":
		etcdtest.Shared(t).Stop(0)
	}
}

func TestMainFailsARunThatLeavesAGoroutine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ bad, want string }{
		{"goroutine", "a goroutine is left"},
		{"client", "google.golang.org/grpc"},
		{"watch", "client/v3.(*watchGRPCStream)"},
		{"no main", "needs a TestMain that calls etcdtest.Main"},
		{"fault", "Stop would hurt every test of the package"},
		{"clean", ""},
	} {
		t.Run(test.bad, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
			cmd.Env = append(os.Environ(), childEnv+"="+test.bad)
			out, err := cmd.CombinedOutput()
			if test.want == "" {
				if err != nil {
					t.Errorf("a clean run: %v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("exit: %v, want a failure that says %q:\n%s", err, test.want, out)
			}
		})
	}
}
