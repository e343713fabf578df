package queue_test

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stuck tells of a queue that does not become empty: what is left, who has claimed it, who works, and where everybody waits.
func (s *storm) stuck() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	for _, part := range []string{"line/jobs/", "line/claims/", "keys/", "line/workers/", "line/paused"} {
		resp, err := s.trail.client.Get(ctx, s.root+part, clientv3.WithPrefix(), clientv3.WithLimit(10))
		if err != nil {
			s.t.Log(err)
			return
		}
		s.t.Logf("%s: %d, the first of them:", part, resp.Count)
		for _, kv := range resp.Kvs {
			s.t.Logf("\t%s = %.200q, created at %d, changed at %d of %d", kv.Key[len(s.root):], kv.Value, kv.CreateRevision, kv.ModRevision, resp.Header.Revision)
		}
	}
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		s.t.Log(err)
	}
	for g := range strings.SplitSeq(stacks.String(), "\n\n") {
		if strings.Contains(g, "etcdkit/etcdkit/queue.") {
			s.t.Log(g)
		}
	}
}
