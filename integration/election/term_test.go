package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/election"
	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestAProclamationIsSeenAndChangesNoToken(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	term := elected(t, open(t, cli), name, "one")
	for _, value := range []string{"two", "", "three"} {
		if err := term.Proclaim(t.Context(), value); err != nil {
			t.Fatal(err)
		}
		leader, err := election.Current(t.Context(), cli, name)
		if err != nil || leader.Value != value || leader.Token != term.Guard().Token {
			t.Errorf("the leader is %+v (%v), want %q with token %d", leader, err, value, term.Guard().Token)
		}
	}
	if resp, err := cli.Get(t.Context(), term.Guard().Key); err != nil || resp.Kvs[0].Lease == 0 {
		t.Errorf("proclaimed, the key has lost its lease: %v, %v", resp, err)
	}
	resign(t, term)
	if err := term.Proclaim(t.Context(), "late"); !errors.Is(err, fence.ErrLost) && err == nil {
		t.Errorf("after Resign: %v, want an error", err)
	}
	etcdtest.WaitKeys(t, soon, cli, name+"/", 0)
}

func TestAProclamationAfterTheLossChangesNothing(t *testing.T) {
	t.Parallel()
	c, cli, name := etcdtest.Shared(t), etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	term := elected(t, open(t, cli), name, "one")
	next := campaigning(t, open(t, cli), name, "two", 2)
	c.Delete(term.Guard().Key)
	if err := term.Proclaim(t.Context(), "late"); !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v, want fence.ErrLost", err)
	}
	other := etcdtest.Receive(t, soon, "the next one", next)
	if leader, err := election.Current(t.Context(), cli, name); err != nil || leader.Value != "two" {
		t.Errorf("the leader is %+v (%v)", leader, err)
	}
	etcdtest.WaitGone(t, soon, cli, term.Guard().Key)
	resign(t, other)
}

func TestAProclamationWhoseReplyIsLostIsMadeAgain(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	name := etcdtest.Prefix(t) + "name"
	term := elected(t, open(t, cli), name, "one")
	for _, after := range []bool{false, true} {
		fault := calls.Inject(etcdtest.Fault{Call: "Txn", After: after})
		if err := term.Proclaim(t.Context(), "two"); err != nil || fault.Hits() != 1 {
			t.Errorf("%v after %d faults", err, fault.Hits())
		}
	}
	if leader, err := election.Current(t.Context(), cli, name); err != nil || leader.Value != "two" {
		t.Errorf("the leader is %+v (%v)", leader, err)
	}
}

func TestAProclamationIsBoundedByItsContextAlsoBehindAnother(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	term := elected(t, open(t, cli), etcdtest.Prefix(t)+"name", "one")
	stuck := calls.Inject(etcdtest.Fault{Call: "Txn", Silent: true, Times: -1})
	first := make(chan error, 1)
	go func() { first <- term.Proclaim(t.Context(), "two") }()
	etcdtest.Done(t, soon, "the first", stuck.Hit())
	ctx, cancel := context.WithCancelCause(t.Context())
	second := make(chan error, 1)
	go func() { second <- term.Proclaim(ctx, "three") }()
	etcdtest.Nothing(t, 20*time.Millisecond, "the second", second)
	enough := errors.New("enough")
	cancel(enough)
	if err := etcdtest.Receive(t, promptly, "the second", second); !errors.Is(err, enough) {
		t.Errorf("the second: %v, want the cause", err)
	}
	stuck.Remove()
	if err := etcdtest.Receive(t, soon, "the first", first); err != nil {
		t.Errorf("the first: %v", err)
	}
}

// An attempt that timed out may arrive when a later proclamation has been made.
func TestAProclamationThatArrivesLateOverwritesNoNewerOne(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second // longer than two proclamations take
	oracle, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	links := etcdtest.Links{etcdtest.Shared(t).Link(0), etcdtest.Shared(t).Link(0)}
	var calls etcdtest.Calls
	s := open(t, links.Dial(clientv3.Config{DialOptions: calls.DialOptions()}))
	etcdtest.Eventually(t, soon, "both links in use", func(ctx context.Context) error {
		_, err := s.Client().Get(ctx, name)
		if links[0].Open() == 0 || links[1].Open() == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	term := elected(t, s, name, "zero")
	links[0].Delay(etcdtest.Requests, delay, delay)
	for before := calls.Count("Txn"); calls.Count("Txn") < before+2; {
		before = calls.Count("Txn")
		if err := term.Proclaim(t.Context(), "old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := term.Proclaim(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	late := oracle.Watch(t.Context(), name, clientv3.WithPrefix())
	select {
	case <-late:
	case <-time.After(delay):
	}
	if leader, err := election.Current(t.Context(), oracle, name); err != nil || leader.Value != "new" {
		t.Errorf("the leader is %+v (%v), want the last proclamation", leader, err)
	}
}

func TestTheLineIsReadInOrder(t *testing.T) {
	t.Parallel()
	cli, name := etcdtest.Client(t), etcdtest.Prefix(t)+"name"
	if _, err := election.Current(t.Context(), cli, name); !errors.Is(err, election.ErrNoLeader) {
		t.Errorf("Current of an empty line: %v, want ErrNoLeader", err)
	}
	if all, err := election.Candidates(t.Context(), cli, name); err != nil || len(all) != 0 {
		t.Errorf("Candidates of an empty line: %v, %v", all, err)
	}
	// A line below, older than this one.
	below := elected(t, open(t, cli), name+"/below", "below")
	if _, err := election.Current(t.Context(), cli, name); !errors.Is(err, election.ErrNoLeader) {
		t.Errorf("Current beside a line below: %v, want ErrNoLeader", err)
	}
	terms := []<-chan *election.Term{}
	for i, value := range []string{"one", "two", "three"} {
		terms = append(terms, campaigning(t, open(t, cli), name, value, i+2))
	}
	all, err := election.Candidates(t.Context(), cli, name)
	if err != nil || len(all) != 3 || all[0].Value != "one" || all[1].Value != "two" || all[2].Value != "three" {
		t.Errorf("Candidates: %+v, %v", all, err)
	}
	for i, next := range terms {
		term := etcdtest.Receive(t, soon, "the next one", next)
		leader, err := election.Current(t.Context(), cli, name)
		if err != nil || leader != all[i] || leader.Token != term.Guard().Token {
			t.Errorf("leader %d is %+v (%v), want %+v", i, leader, err, all[i])
		}
		resign(t, term)
	}
	resign(t, below)
}

func TestNamesThatAreRefusedNameTheRule(t *testing.T) {
	t.Parallel()
	cli, calls := counted(t)
	s := open(t, cli)
	calls.Reset()
	for name, rule := range map[string]string{"": "it is empty", "a\x00b": "control character", "a\xff": "not UTF-8"} {
		_, campaign := election.Campaign(t.Context(), s, name, "")
		_, current := election.Current(t.Context(), cli, name)
		_, candidates := election.Candidates(t.Context(), cli, name)
		var observe error
		n := 0
		for _, observe = range election.Observe(t.Context(), cli, name) {
			n++
		}
		if n != 1 {
			t.Errorf("Observe(%q) yields %d times, want once", name, n)
		}
		for what, err := range map[string]error{
			"Campaign": campaign, "Current": current, "Candidates": candidates, "Observe": observe,
		} {
			if err == nil || !strings.Contains(err.Error(), rule) || !strings.HasPrefix(err.Error(), "election") {
				t.Errorf("%s(%q): %v, want an error that names the rule: %s", what, name, err, rule)
			}
		}
	}
	if n := calls.Sent(); n != 0 {
		t.Errorf("%d calls were made: %v", n, calls.Counts())
	}
}
