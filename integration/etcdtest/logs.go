package etcdtest

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logLines is how many lines of a member's log are kept for a test that fails.
const logLines = 25

// memberLog keeps the last lines of a member's log. Members log into memory and not through t.Log: a server's
// goroutine may log after its test has ended, which panics.
type memberLog struct {
	zapcore.LevelEnabler
	enc  zapcore.Encoder
	tail *tail
}

// newMemberLog returns a logger of info and above. Its tail is found again with logTail.
func newMemberLog(name string) *zap.Logger {
	cfg := zap.NewDevelopmentEncoderConfig()
	cfg.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	return zap.New(&memberLog{
		LevelEnabler: zapcore.InfoLevel,
		enc:          zapcore.NewConsoleEncoder(cfg),
		tail:         &tail{},
	}).Named(name)
}

// logTail returns the last lines of a logger that newMemberLog made.
func logTail(l *zap.Logger) string {
	if m, ok := l.Core().(*memberLog); ok {
		return m.tail.String()
	}
	return ""
}

func (l *memberLog) With(fields []zapcore.Field) zapcore.Core {
	enc := l.enc.Clone()
	for _, f := range fields {
		f.AddTo(enc)
	}
	return &memberLog{LevelEnabler: l.LevelEnabler, enc: enc, tail: l.tail}
}

func (l *memberLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return ce.AddCore(e, l)
	}
	return ce
}

func (l *memberLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	buf, err := l.enc.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer buf.Free()
	l.tail.add(strings.TrimRight(buf.String(), "\n"))
	if e.Level >= zapcore.DPanicLevel {
		// The process is about to end: nobody would read the tail.
		_, err = fmt.Fprintf(os.Stderr, "etcdtest: an etcd member failed: %s", buf.String())
	}
	return err
}

func (l *memberLog) Sync() error { return nil }

// tail is a ring of lines.
type tail struct {
	mu    sync.Mutex // guards both
	lines [logLines]string
	n     int // lines ever added
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines[t.n%logLines] = line
	t.n++
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for i := max(0, t.n-logLines); i < t.n; i++ {
		b.WriteString(t.lines[i%logLines])
		b.WriteByte('\n')
	}
	return b.String()
}
