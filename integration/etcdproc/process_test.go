package etcdproc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/integration/etcdproc"
)

func registerChildren() {
	// echo says what it is, then what it hears.
	etcdproc.Child("echo", func() {
		fmt.Println("args", os.Args[1:], os.Getenv("ECHO"))
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			fmt.Println("heard", in.Text())
		}
		fmt.Println("bye")
	})
	// ticker says something all the time.
	etcdproc.Child("ticker", func() {
		i := 0
		for range time.Tick(100 * time.Microsecond) {
			fmt.Println("tick", i)
			i++
		}
	})
	etcdproc.Child("failure", func() {
		fmt.Fprintln(os.Stderr, "no luck today")
		os.Exit(7)
	})
	etcdproc.Child("panic", func() { panic("on purpose") })
	// parent starts a cluster, freezes one of its members, names the processes, and waits to be killed.
	etcdproc.Child("parent", func() {
		c, err := etcdproc.Start(context.Background(), fast(3))
		if err == nil {
			err = c.Freeze(1)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("pids", c.Process(0).PID(), c.Process(1).PID(), c.Process(2).PID(), c.Dir())
		select {}
	})
}

func spawn(t *testing.T, c etcdproc.Command) *etcdproc.Process {
	t.Helper()
	p, err := etcdproc.Spawn(c)
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

func TestAChildHasArgumentsAndEnvironmentHearsAndSays(t *testing.T) {
	t.Parallel()
	p := spawn(t, etcdproc.Command{Child: "echo", Args: []string{"-a", "b"}, Env: []string{"ECHO=e"}})
	if rest, err := p.Expect(t.Context(), "args "); err != nil || rest != "[-a b] e" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := errors.Join(p.Say("one"), p.Say("two")); err != nil {
		t.Fatal(err)
	}
	if rest, err := p.Expect(t.Context(), "heard two"); err != nil || rest != "" {
		t.Errorf("%q, %v", rest, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if line, err := p.Line(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", line, err)
	}
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
	var exit *etcdproc.ExitError
	if err := p.Wait(within(t, soon)); !errors.As(err, &exit) || exit.Reason != "signal: terminated" || exit.Code != -1 {
		t.Errorf("after Terminate: %v", err)
	}
	if _, err := p.Line(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("closing one that is gone: %v", err)
	}
}

func TestAChildsFailureIsReported(t *testing.T) {
	t.Parallel()
	for child, want := range map[string]struct {
		code int
		text string
	}{
		"failure": {7, "no luck today"},
		"panic":   {2, "on purpose"},
		"nobody":  {1, `child "nobody" is not registered; registered before Main: ["echo" "etcd member"`},
	} {
		p := spawn(t, etcdproc.Command{Child: child})
		var exit *etcdproc.ExitError
		err := p.Wait(within(t, soon))
		if !errors.As(err, &exit) || exit.Code != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v, want code %d and %q", child, err, want.code, want.text)
		}
		if _, err := p.Expect(t.Context(), "anything"); !errors.As(err, &exit) || !errors.Is(err, io.EOF) {
			t.Errorf("%s, Expect: %v", child, err)
		}
	}
}

func TestAFrozenChildDoesNothing(t *testing.T) {
	t.Parallel()
	p := spawn(t, etcdproc.Command{Child: "ticker"})
	if _, err := p.Expect(t.Context(), "tick 10"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		drain := func() (last string) {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				line, err := p.Line(ctx)
				cancel()
				if err != nil {
					return last
				}
				last = line
			}
		}
		drain() // what it had said before
		if last := drain(); last != "" {
			t.Fatalf("a frozen process said %q", last)
		}
		if err := p.Thaw(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Expect(within(t, soon), "tick"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing a frozen process: %v", err)
	}
	if err := p.Freeze(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("freezing a dead process: %v", err)
	}
}

// Nobody is left to stop the members of a parent that was killed, the frozen one least of all.
func TestNoMemberSurvivesItsParent(t *testing.T) {
	p := spawn(t, etcdproc.Command{Child: "parent"})
	said, err := p.Expect(within(t, soon), "pids ")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(said)
	t.Cleanup(func() {
		if err := os.RemoveAll(fields[3]); err != nil {
			t.Error(err)
		}
	})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, field := range fields[:3] {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		for alive(pid) {
			select {
			case <-within(t, soon).Done():
				t.Fatalf("member %d is still alive", pid)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// alive reports whether a process that is not our child runs. A dead one that nobody has waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func TestAProgramWithoutMainCannotSpawn(t *testing.T) {
	if os.Getenv("ETCDPROC_TEST_NO_MAIN") != "" {
		if _, err := etcdproc.Spawn(etcdproc.Command{Child: "echo"}); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "ETCDPROC_TEST_NO_MAIN=1")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "must call etcdproc.Main") {
		t.Errorf("%v\n%s", err, out)
	}
}
