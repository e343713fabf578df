package chaos_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stuck describes a line that does not go on: who believes, whose keys are in it and how long they live by themselves, and
// where everybody waits.
func (a *arena) stuck(h *history) string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), soon)
	defer cancel()
	for _, c := range h.believers() {
		fmt.Fprintf(&b, "believes: %v\n", c)
	}
	oracle := a.cluster.Oracle(a.cluster.WaitLeader())
	line, err := oracle.Get(ctx, h.name+"/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return fmt.Sprint(err)
	}
	for _, kv := range line.Kvs {
		lives := "without a lease"
		if l, err := oracle.TimeToLive(ctx, clientv3.LeaseID(kv.Lease)); err == nil {
			lives = fmt.Sprintf("for %d s", l.TTL)
		}
		fmt.Fprintf(&b, "in line: %s, token %d, lives %s%s\n", kv.Key, kv.CreateRevision, lives, h.whose(kv.CreateRevision))
	}
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		return fmt.Sprint(err)
	}
	for s := range strings.SplitSeq(stacks.String(), "\n\n") {
		if strings.Contains(s, "etcdkit/etcdkit/") {
			b.WriteString(s + "\n\n")
		}
	}
	return b.String()
}
