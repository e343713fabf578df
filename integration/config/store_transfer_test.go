package config_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/retry"
)

// environments are two of them, on one client.
func environments(t testing.TB, cli *clientv3.Client) (dev, prod *config.Store) {
	t.Helper()
	prefix := "/" + etcdtest.Prefix(t)
	return store(t, cli, &config.StoreOptions{Environment: prefix + "dev"}), store(t, cli, &config.StoreOptions{Environment: prefix + "prod"})
}

// holds is what is below a Store's environment, by name.
func holds(t testing.TB, s *config.Store) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for _, e := range must[config.Listing](t)(s.At(t.Context(), "", 0)).Entries {
		values[strings.TrimPrefix(e.Key, s.Environment()+"/")] = string(e.Value)
	}
	return values
}

// export is an export of a Store's environment.
func export(t testing.TB, s *config.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(t.Context(), "", &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// writes are the transactions that write.
func writes(message any) bool {
	txn, is := message.(*pb.TxnRequest)
	return is && slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool { return op.GetRequestPut() != nil })
}

// kinds are differences in short.
func kinds(differences []config.Difference) (short []string) {
	for _, d := range differences {
		short = append(short, fmt.Sprintf("%s %s: %s > %s", d.Name, d.Kind, d.Value, d.FromValue))
	}
	return short
}

func TestAnExportIsImportedElsewhereToTheByte(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	dev, prod := environments(t, cli)
	want := map[string]string{
		"mail/limits": "rate: 1\nburst: 2\n", "mail/level": "info", "binary": "\x00\xff", "empty": "", "json": `{"a": "\u00e9<>"}`,
		"a.b c": "  leading\n", "é": "text é\n\n",
	}
	for name, value := range want {
		publish(t, dev, dev.Environment()+"/"+name, value)
	}
	text := export(t, dev)
	if again := export(t, dev); again != text && !strings.Contains(text, "revision") {
		t.Errorf("exported twice:\n%s\n%s", text, again)
	}
	names := slices.Sorted(maps.Keys(want))
	last := 0
	for _, name := range names {
		at := strings.Index(text, fmt.Sprintf("key: %q\n", name))
		if at < last {
			t.Errorf("%q is not in its place in\n%s", name, text)
		}
		last = at
	}
	publish(t, prod, prod.Environment()+"/mail/level", "info")
	publish(t, prod, prod.Environment()+"/mail/limits", "rate: 0\n")
	publish(t, prod, prod.Environment()+"/own", "prod's")

	// To look at first.
	into := strings.ReplaceAll(text, dev.Environment(), prod.Environment())
	o := config.TransferOptions{Author: "ada", Reason: "a release", DryRun: true}
	dry := must[config.Transfer](t)(prod.Import(t.Context(), "", strings.NewReader(into), o))
	if len(dry.Differences) != len(want) || dry.Equal != 1 || len(dry.Written) != 0 || len(holds(t, prod)) != 3 {
		t.Errorf("a dry run: %q, %d equal, %v", kinds(dry.Differences), dry.Equal, dry.Written)
	}
	if got := kinds(dry.Differences)[6]; got != "é missing:  > text é\n\n" {
		t.Errorf("the last difference is %q", got)
	}

	// Changed after that, it is not what somebody has looked at.
	key := prod.Environment() + "/mail/limits"
	newer := publish(t, prod, key, "rate: -1\n")
	_, err := prod.Import(t.Context(), "", strings.NewReader(into), config.TransferOptions{AsOf: dry.Revision})
	var conflict *config.ConflictError
	if !errors.As(err, &conflict) || conflict.Key != key || conflict.Revision != newer.Revision || len(holds(t, prod)) != 3 {
		t.Errorf("imported over what has changed: %v", err)
	}
	must[config.Version](t)(prod.Rollback(t.Context(), key, 1, config.PublishOptions{}))
	dry = must[config.Transfer](t)(prod.Import(t.Context(), "", strings.NewReader(into), o))

	// Another name for the prefix, and then done.
	o.DryRun, o.AsOf = false, dry.Revision
	done := must[config.Transfer](t)(prod.Import(t.Context(), prod.Environment(), strings.NewReader(text), o))
	if len(done.Written) != len(want)-1 || done.Equal != 1 {
		t.Errorf("imported: %+v", done.Written)
	}
	for _, v := range done.Written {
		if v.Author != "ada" || v.Reason != "a release" || v.Kind != config.Published || v.Revision == 0 || v.Value != nil {
			t.Errorf("imported: %+v", v)
		}
	}
	tells(t, prod, prod.Environment()+"/mail/limits", "published rate: 0\n", "published rate: -1\n", "rolled back rate: 0\n", "published rate: 1\nburst: 2\n")
	want["own"] = "prod's"
	if got := holds(t, prod); !maps.Equal(got, want) {
		t.Errorf("it holds %q, want %q", got, want)
	}

	// Again: nothing to do. Only when asked is anything deleted.
	again := must[config.Transfer](t)(prod.Import(t.Context(), "", strings.NewReader(into), config.TransferOptions{}))
	if len(again.Written) != 0 || again.Equal != len(want)-1 || fmt.Sprint(kinds(again.Differences)) != "[own surplus: prod's > ]" {
		t.Errorf("imported again: %+v", again)
	}
	pruned := must[config.Transfer](t)(prod.Import(t.Context(), "", strings.NewReader(into), config.TransferOptions{Prune: true}))
	if len(pruned.Written) != 1 || pruned.Written[0].Kind != config.Deleted {
		t.Errorf("pruned: %+v", pruned)
	}
	tells(t, prod, prod.Environment()+"/own", "published prod's", "deleted, gone")
}

func TestAnImportIsRefusedAsAWholeBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	prefix := "/" + etcdtest.Prefix(t) + "prod"
	s := store(t, cli, &config.StoreOptions{Environment: prefix, Validate: func(_ string, value []byte) error {
		if string(value) == "bad" {
			return errors.New("the rule")
		}
		return nil
	}})
	header := "etcdkit: config/1\nprefix: " + prefix + "\n---\nkey: good\nvalue: good\n---\n"
	for text, want := range map[string]error{
		header + "key: z\nvalue: bad\n":                                config.ErrInvalid,
		header + "key: z\nvalue: 1\n":                                  nil,
		strings.ReplaceAll(header, "prod", "dev") + "key: z\nvalue: x": config.ErrOutside,
		header + "key: " + strings.Repeat("z", 513) + "\nvalue: x":     nil,
		strings.ReplaceAll(header, prefix, prefix+"/sub"):              nil, // passes, see below
		header + "key: z\nvalue: etcdkit:sealed:k1:x\n":                nil, // likewise
	} {
		calls.Reset()
		o := config.TransferOptions{}
		into := ""
		switch {
		case strings.Contains(text, "/sub"):
			continue
		case strings.Contains(text, "sealed"):
			into, want = prefix+"/other", config.ErrSealed
		}
		got, err := s.Import(t.Context(), into, strings.NewReader(text), o)
		if err == nil || want != nil && !errors.Is(err, want) || len(got.Written) > 0 || calls.Sent() != 0 {
			t.Errorf("%.120q: %v, %+v, %v", text, err, got, calls.Counts())
		}
	}
}

func TestAnImportOfThousandsIsBatchedAndGoesOnWhereItFailed(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	_, prod := environments(t, cli)
	const keys = 1000
	var b strings.Builder
	fmt.Fprintf(&b, "etcdkit: config/1\nprefix: %s\n", prod.Environment())
	for n := range keys {
		fmt.Fprintf(&b, "---\nkey: k%04d\nvalue: \"%d\"\n", n, n)
		if n < 100 {
			put(t, cli, fmt.Sprintf("%s/k%04d", prod.Environment(), n), "others'")
		}
	}
	calls.Reset()
	broken := calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, Skip: 10, Times: -1, Err: rpctypes.ErrGRPCPermissionDenied})
	failed, err := prod.Import(t.Context(), "", strings.NewReader(b.String()), config.TransferOptions{Author: "ada"})
	broken.Remove()
	if !errors.Is(err, rpctypes.ErrPermissionDenied) || len(failed.Unknown) != 0 || len(failed.Differences) != keys {
		t.Fatalf("in the middle: %v, %d unknown", err, len(failed.Unknown))
	}
	written := make(map[string]bool)
	for _, v := range failed.Written {
		written[v.Key] = true
	}
	if len(written) == 0 || len(written) == keys {
		t.Fatalf("%d keys were written", len(written))
	}
	for name, value := range holds(t, prod) {
		if ours := value != "others'"; ours != written[prod.Environment()+"/"+name] {
			t.Fatalf("%s holds %q, and is said to be written: %t", name, value, !ours)
		}
	}
	calls.Reset()
	done := must[config.Transfer](t)(prod.Import(t.Context(), "", strings.NewReader(b.String()), config.TransferOptions{Author: "ada"}))
	if len(done.Written)+len(failed.Written) != keys || done.Equal != len(failed.Written) {
		t.Errorf("then %d were written and %d equal, after %d", len(done.Written), done.Equal, len(failed.Written))
	}
	if sent := calls.Count("Txn"); sent > 4*keys/30+10 {
		t.Errorf("%d transactions for %d keys", sent, keys)
	}
	for n := range keys {
		if n%97 == 0 {
			want := []string{fmt.Sprintf("published %d", n)}
			if n < 100 {
				want = append([]string{"outside others'"}, want...)
			}
			tells(t, prod, fmt.Sprintf("%s/k%04d", prod.Environment(), n), want...)
		}
	}
}

// The answer of the second of several transactions is lost, with the transaction applied, and every answer after it.
func TestAnImportWhoseAnswersAreLostSaysWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	calls := &etcdtest.Calls{}
	cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
	_, prod := environments(t, cli)
	var b strings.Builder
	fmt.Fprintf(&b, "etcdkit: config/1\nprefix: %s\n", prod.Environment())
	for n := range 60 {
		fmt.Fprintf(&b, "---\nkey: k%04d\nvalue: \"%d\"\n", n, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	lost := calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, Skip: 1, Times: -1, After: true, Silent: true})
	go func() {
		<-lost.Hit()
		cancel()
	}()
	got, err := prod.Import(ctx, "", strings.NewReader(b.String()), config.TransferOptions{})
	if !retry.Ambiguous(err) || !errors.Is(err, context.Canceled) || len(got.Written) != 30 || len(got.Unknown) != 30 || got.Unknown[0] != prod.Environment()+"/k0030" {
		t.Errorf("%v, %d written, unknown %q", err, len(got.Written), got.Unknown)
	}
}

func TestPromotePublishesExactlyWhatWasCompared(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	dev, prod := environments(t, cli)
	set := func(s *config.Store, name, value string) config.Version {
		return publish(t, s, s.Environment()+"/"+name, value)
	}
	set(dev, "same", "x")
	set(prod, "same", "x")
	missing := set(dev, "mail/new", "1")
	from, to := set(dev, "mail/limits", "2"), set(prod, "mail/limits", "1")
	own := set(prod, "own", "3")

	c := must[config.Comparison](t)(prod.Compare(t.Context(), dev, ""))
	want := []string{"mail/limits differs: 1 > 2", "mail/new missing:  > 1", "own surplus: 3 > "}
	if !slices.Equal(kinds(c.Differences), want) || c.Equal != 1 || c.Revision < own.Revision || c.FromRevision != c.Revision {
		t.Fatalf("compared: %q, %+v", kinds(c.Differences), c)
	}
	for i, r := range [][2]int64{{to.Revision, from.Revision}, {0, missing.Revision}, {own.Revision, 0}} {
		if d := c.Differences[i]; d.Revision != r[0] || d.FromRevision != r[1] || d.Key != prod.Environment()+"/"+d.Name || d.FromKey != dev.Environment()+"/"+d.Name {
			t.Errorf("compared: %+v", d)
		}
	}
	if part := must[config.Comparison](t)(prod.Compare(t.Context(), dev, "mail")); len(part.Differences) != 2 || part.Differences[0].Name != "limits" {
		t.Errorf("compared a part: %q", kinds(part.Differences))
	}
	done := must[config.Transfer](t)(prod.Promote(t.Context(), dev, c.Differences, config.TransferOptions{Author: "ada"}))
	if len(done.Written) != 2 || done.Written[0].Revision != done.Written[1].Revision || done.Written[0].Author != "ada" {
		t.Errorf("promoted: %+v", done.Written)
	}
	tells(t, prod, prod.Environment()+"/mail/limits", "published 1", "published 2")
	if got := holds(t, prod); !maps.Equal(got, map[string]string{"same": "x", "mail/limits": "2", "mail/new": "1", "own": "3"}) {
		t.Errorf("it holds %q", got)
	}
	pruned := must[config.Transfer](t)(prod.Promote(t.Context(), dev, c.Differences[2:], config.TransferOptions{Prune: true}))
	if len(pruned.Written) != 1 {
		t.Errorf("pruned: %+v", pruned)
	}
	if c := must[config.Comparison](t)(prod.Compare(t.Context(), dev, "")); len(c.Differences) != 0 || c.Equal != 3 {
		t.Errorf("after all: %q", kinds(c.Differences))
	}
}

func TestPromoteWritesOverNothingThatWasNotCompared(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(cli *clientv3.Client, dev, prod string){
		"the target is changed":                 func(cli *clientv3.Client, _, prod string) { put(t, cli, prod, "hot fix") },
		"the target is deleted":                 func(cli *clientv3.Client, _, prod string) { remove(t, cli, prod) },
		"the source is changed":                 func(cli *clientv3.Client, dev, _ string) { put(t, cli, dev, "newer") },
		"the source is deleted":                 func(cli *clientv3.Client, dev, _ string) { remove(t, cli, dev) },
		"the source is written again as it was": func(cli *clientv3.Client, dev, _ string) { put(t, cli, dev, "2") },
	} {
		for _, late := range []bool{false, true} {
			for _, shared := range []bool{true, false} {
				if late && !shared && strings.Contains(name, "source") {
					continue // of another cluster that cannot be told in time
				}
				t.Run(fmt.Sprintf("%s, just before the write: %t, one client: %t", name, late, shared), func(t *testing.T) {
					t.Parallel()
					calls := &etcdtest.Calls{}
					cli := etcdtest.Shared(t).Dial(clientv3.Config{DialOptions: calls.DialOptions()})
					dev, prod := environments(t, cli)
					if !shared {
						dev = store(t, etcdtest.Client(t), &config.StoreOptions{Environment: dev.Environment()})
					}
					publish(t, dev, dev.Environment()+"/a", "2")
					publish(t, prod, prod.Environment()+"/a", "1")
					publish(t, dev, dev.Environment()+"/b", "2")
					c := must[config.Comparison](t)(prod.Compare(t.Context(), dev, ""))
					other := etcdtest.Client(t)
					hold := make(chan struct{})
					if late {
						held := calls.Inject(etcdtest.Fault{Call: "Txn", Match: writes, Hold: hold})
						go func() {
							<-held.Hit()
							change(other, dev.Environment()+"/a", prod.Environment()+"/a")
							close(hold)
						}()
					} else {
						change(other, dev.Environment()+"/a", prod.Environment()+"/a")
					}
					before := "hot fix"
					if !strings.Contains(name, "changed") || strings.Contains(name, "source") {
						before = "1"
					}
					got, err := prod.Promote(t.Context(), dev, c.Differences, config.TransferOptions{})
					var conflict *config.ConflictError
					if !errors.As(err, &conflict) || !errors.Is(err, config.ErrConflict) || len(got.Written) != 0 || len(got.Unknown) != 0 {
						t.Fatalf("%v, %+v", err, got.Written)
					}
					want := map[string]string{"a": before}
					if strings.Contains(name, "target is deleted") {
						want = map[string]string{}
					}
					if is := holds(t, prod); !maps.Equal(is, want) {
						t.Errorf("it holds %q, want %q", is, want)
					}
				})
			}
		}
	}
}

func TestPromoteRefusesWhatCannotBeReadElsewhere(t *testing.T) {
	t.Parallel()
	cli := etcdtest.Client(t)
	dev, prod := environments(t, cli)
	publish(t, dev, dev.Environment()+"/password", "etcdkit:sealed:k1:AAAA")
	c := must[config.Comparison](t)(prod.Compare(t.Context(), dev, ""))
	if _, err := prod.Promote(t.Context(), dev, c.Differences, config.TransferOptions{}); !errors.Is(err, config.ErrSealed) || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("a sealed value: %v", err)
	}
	c.Differences[0].Key = "/elsewhere"
	if _, err := prod.Promote(t.Context(), dev, c.Differences, config.TransferOptions{}); !errors.Is(err, config.ErrOutside) {
		t.Errorf("a key of another environment: %v", err)
	}
	if _, err := prod.Compare(t.Context(), prod, ""); err == nil {
		t.Error("an environment was compared to itself")
	}
	if _, err := prod.Compare(t.Context(), store(t, cli, nil), ""); err == nil {
		t.Error("compared to no environment")
	}
}
