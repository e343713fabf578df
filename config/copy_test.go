package config

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdkit/etcdkit/internal/follow"
	"github.com/etcdkit/etcdkit/internal/latest"
)

// While one document is being copied, the next is taken and the Value is closed: a restart begins with the next.
func TestWhatIsTakenWhileTheOneBeforeIsCopiedIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "copies")
		copying, resume := make(chan struct{}), make(chan struct{})
		core, _ := observer.New(zap.WarnLevel)
		v := newValue("port", &Options[int]{Logger: zap.New(core, zap.Hooks(func(zapcore.Entry) error { // it cannot be written
			close(copying)
			<-resume
			return nil
		}))})
		var err error
		if v.copy, err = newDiskCopy(dir, []string{"port"}, v.log); err != nil {
			t.Fatal(err)
		}
		of := func(n int) state[int] {
			entry := &follow.Entry{Key: []byte("port"), Value: []byte(strconv.Itoa(n)), ModRevision: int64(n)}
			return state[int]{value: n, revision: int64(n), entries: []*follow.Entry{entry}}
		}
		v.current = latest.New(of(1))
		life, end := context.WithCancel(t.Context())
		v.work.Go(func() { v.keep(life, nil) })
		synctest.Wait()
		if found, _, err := v.copy.load(); err != nil || found.revision != 1 {
			t.Fatalf("the first copy is of revision %d: %v", found.revision, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		v.current.Set(of(2))
		<-copying
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		v.current.Set(of(3))
		end()
		close(resume)
		v.work.Wait()
		if found, _, err := v.copy.load(); err != nil || found.revision != 3 {
			t.Errorf("the last copy is of revision %d: %v", found.revision, err)
		}
	})
}
