package config

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/internal/call"
)

// Status returns what the instances that read key say: which document each of them runs, and what became of the newest it was given.
// They are ordered by instance. Who does not live is not among them, at the latest when the TTL of its lease has passed; nor is who has no
// Identity. A report that others have written and that cannot be read has no State.
func (s *Store) Status(ctx context.Context, key string) ([]Report, error) {
	l, err := s.layout(key)
	if err != nil {
		return nil, err
	}
	reports, _, err := s.reports(ctx, l)
	return reports, err
}

// reports reads all reports, and the revision as of which they are so.
func (s *Store) reports(ctx context.Context, l layout) ([]Report, int64, error) {
	resp, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.KV.Get(ctx, l.reports(), clientv3.WithPrefix())
	})
	if err != nil {
		return nil, 0, fmt.Errorf("config %q: %w", l.key, err)
	}
	return readReports(l, resp.Kvs), resp.Header.GetRevision(), nil
}

// readReports reads reports, ordered by instance.
func readReports(l layout, kvs []*mvccpb.KeyValue) []Report {
	reports := make([]Report, len(kvs))
	for i, kv := range kvs {
		reports[i] = readReport(l.reporter(string(kv.Key)), kv)
	}
	return ordered(reports)
}

// ordered sorts reports by instance.
func ordered(reports []Report) []Report {
	slices.SortFunc(reports, func(a, b Report) int { return strings.Compare(a.Instance, b.Instance) })
	return reports
}

// living leaves out those who have said goodbye.
func living(reports []Report) []Report {
	return slices.DeleteFunc(slices.Clone(reports), func(r Report) bool { return r.State == Left })
}

// instances are those who report.
func instances(reports []Report) []string {
	ids := make([]string, len(reports))
	for i, r := range reports {
		ids[i] = r.Instance
	}
	return ids
}
