package call

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// silentAddress returns an address whose kernel neither accepts nor refuses: the queue of its listener is full.
func silentAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(client) })
		if err := unix.Connect(client, bound); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		poll := []unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}
		if n, err := unix.Poll(poll, 50); err != nil || n == 0 {
			return fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
		}
	}
}

// It may be far, or slow: to wait for it is not in vain.
func TestAnEndpointThatNeitherAcceptsNorRefusesIsNotRefused(t *testing.T) {
	silent := silentAddress(t)
	f := look(t.Context(), []string{silent})
	if want := silent + " does not accept connections in time"; f.lines[0] != want {
		t.Fatalf("%q, want %q", f.lines[0], want)
	}
	if err := Refused(context.WithoutCancel(t.Context()), []string{silent}); err != nil {
		t.Errorf("%v, want no verdict", err)
	}
}
