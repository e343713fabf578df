package snapshot

import (
	"errors"
	"strings"
	"testing"
)

func TestADiskWithoutRoomIsToldOfBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	has, known := free(dir)
	if !known {
		t.Skip("how much room there is is not known here")
	}
	if err := room(dir, 1<<20); has > 1<<30 && err != nil {
		t.Error(err)
	}
	if err := room(dir, has*2); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir+" has ") {
		t.Errorf("%v", err)
	}
	if _, known := free(dir + "/none"); known {
		t.Error("a directory that does not exist has room")
	}
}

func TestBytesAreSaidInTheUnitThatFits(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 150 << 10: "150 KiB", 5 << 20: "5.0 MiB", 3 << 40: "3.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
