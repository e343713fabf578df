package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// user adds a user whose role has a right to prefixes, before authentication is turned on.
func user(t testing.TB, cli *clientv3.Client, name string, right clientv3.PermissionType, prefixes ...string) {
	t.Helper()
	ctx := t.Context()
	_, err := cli.RoleAdd(ctx, name)
	for _, p := range prefixes {
		_, err2 := cli.RoleGrantPermission(ctx, name, p, clientv3.GetPrefixRangeEnd(p), right)
		err = errors.Join(err, err2)
	}
	_, err3 := cli.UserAdd(ctx, name, name)
	_, err4 := cli.UserGrantRole(ctx, name, name)
	if err := errors.Join(err, err3, err4); err != nil {
		t.Fatal(err)
	}
}

// The two ranges of a role, as docs/keys.md has them.
func TestAWriterOfOneEnvironmentCannotWriteAnother(t *testing.T) {
	c := etcdtest.New(t, nil)
	open := c.Client()
	user(t, open, "dev", clientv3.PermissionType(clientv3.PermReadWrite), "/config/dev/", "etcdkit/config//config/dev/")
	user(t, open, "auditor", clientv3.PermissionType(clientv3.PermRead), "/config/dev/", "etcdkit/config//config/dev/")
	user(t, open, "release", clientv3.PermissionType(clientv3.PermReadWrite),
		"/config/prod/", "etcdkit/config//config/prod/", "/config/dev/")
	root := secure(t, c, "nothing")
	dial := func(name string) *clientv3.Client {
		return c.Dial(clientv3.Config{Username: name, Password: name})
	}
	client := dial("dev")
	dev := store(t, client, &config.StoreOptions{Environment: "/config/dev"})
	loose := store(t, client, nil)
	put(t, root, "/config/prod/level", "info")

	// All of it in its own environment.
	const key = "/config/dev/level"
	publish(t, dev, key, "1")
	must[config.Version](t)(dev.Update(t.Context(), key, func([]byte) ([]byte, error) { return []byte("2"), nil }, config.PublishOptions{}))
	must[config.Version](t)(dev.Delete(t.Context(), key, config.PublishOptions{}))
	v := must[config.Version](t)(dev.Rollback(t.Context(), key, 2, config.PublishOptions{}))
	put(t, root, key, "3")
	tells(t, dev, key, "published 1", "published 2", "deleted, gone", "rolled back 2", "outside 3")
	must[config.Diff](t)(dev.Diff(t.Context(), key, 1, 2))
	must[config.Version](t)(dev.VersionAt(t.Context(), key, time.Now()))
	if l := must[config.Listing](t)(dev.At(t.Context(), "", v.Revision)); string(l.Entries[0].Value) != "2" {
		t.Errorf("back then: %+v", l)
	}
	must[config.Transfer](t)(dev.Import(t.Context(), "", strings.NewReader(export(t, dev)), config.TransferOptions{Prune: true}))
	edits, _ := watch(t, dev, "", v.Revision)
	follows(t, edits, fmt.Sprintf("created %s at %d: 2 (1)", key, v.Revision))

	// Nothing elsewhere: refused before it is sent, and without the option by etcd.
	if _, err := dev.Publish(t.Context(), "/config/prod/level", []byte("x"), config.PublishOptions{}); !errors.Is(err, config.ErrOutside) {
		t.Errorf("published elsewhere: %v", err)
	}
	denied := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, rpctypes.ErrPermissionDenied) || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, elsewhere := range []string{"/config/prod/level", "/config/prod/new", "/config/dev2/level", "config/dev/level"} {
		_, err := loose.Publish(t.Context(), elsewhere, []byte("secret"), config.PublishOptions{})
		denied("Publish "+elsewhere, err)
		_, err = loose.Delete(t.Context(), elsewhere, config.PublishOptions{})
		denied("Delete "+elsewhere, err)
		_, err = loose.Get(t.Context(), elsewhere)
		denied("Get "+elsewhere, err)
	}
	if resp, err := root.Get(t.Context(), "/config/prod/level"); err != nil || string(resp.Kvs[0].Value) != "info" {
		t.Errorf("the other environment holds %v, %v", resp, err)
	}

	// Who promotes reads the one and writes the other.
	release := dial("release")
	prod := store(t, release, &config.StoreOptions{Environment: "/config/prod"})
	from := store(t, release, &config.StoreOptions{Environment: "/config/dev"})
	comparison := must[config.Comparison](t)(prod.Compare(t.Context(), from, ""))
	must[config.Transfer](t)(prod.Promote(t.Context(), from, comparison.Differences, config.TransferOptions{}))
	tells(t, prod, "/config/prod/level", "outside info", "published 3")

	// A reader sees what it cannot enter, under the number that it will have.
	reader := store(t, dial("auditor"), &config.StoreOptions{Environment: "/config/dev"})
	last := must[config.Version](t)(dev.Get(t.Context(), key))
	at := put(t, root, key, "4")
	for range 2 {
		history := must[[]config.Version](t)(reader.History(t.Context(), key, 0))
		if got := history[0]; got.Number != last.Number+1 || got.Kind != config.Outside || string(got.Value) != "4" || got.Revision != at {
			t.Errorf("a reader sees %+v after %+v", got, last)
		}
		if some := must[[]config.Version](t)(reader.History(t.Context(), key, 1)); len(some) != 1 || string(some[0].Value) != "4" {
			t.Errorf("a reader sees as the newest %+v", some)
		}
		if got := must[config.Version](t)(reader.Get(t.Context(), key)); got.Number != last.Number+1 || string(got.Value) != "4" {
			t.Errorf("a reader gets %+v", got)
		}
		must[config.Version](t)(reader.Version(t.Context(), key, last.Number+1))
		must[config.Diff](t)(reader.Diff(t.Context(), key, last.Number, last.Number+1))
	}
	if resp, err := root.Get(t.Context(), fmt.Sprintf("etcdkit/config/%s//history/%020d", key, last.Number+1)); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("a reader has entered %v, %v", resp, err)
	}
	_, err := reader.Publish(t.Context(), key, []byte("secret"), config.PublishOptions{})
	denied("a reader's Publish", err)
}

func TestAKeyWithARolloutUnderWayIsLeftAlone(t *testing.T) {
	t.Parallel()
	cli, key := etcdtest.Client(t), etcdtest.Prefix(t)+"app/level"
	environment := strings.TrimSuffix(key, "/level")
	s := store(t, cli, &config.StoreOptions{Environment: environment})
	publish(t, s, key, "1")
	publish(t, s, key, "2")
	methods := map[string]func(ignore bool) error{
		"Publish": func(i bool) error {
			return second(s.Publish(t.Context(), key, []byte("3"), config.PublishOptions{IgnoreRollout: i}))
		},
		"Update": func(i bool) error {
			return second(s.Update(t.Context(), key, func(old []byte) ([]byte, error) { return append(old, '+'), nil }, config.PublishOptions{IgnoreRollout: i}))
		},
		"Rollback": func(i bool) error {
			return second(s.Rollback(t.Context(), key, 1, config.PublishOptions{IgnoreRollout: i}))
		},
		"Import": func(i bool) error {
			return second(s.Import(t.Context(), "", strings.NewReader("etcdkit: config/1\nprefix: "+environment+"\n---\nkey: level\nvalue: imported\n"), config.TransferOptions{IgnoreRollout: i}))
		},
		"Delete": func(i bool) error {
			return second(s.Delete(t.Context(), key, config.PublishOptions{IgnoreRollout: i}))
		},
	}
	plan := "etcdkit/config/" + key + "//rollout/plan"
	for _, state := range []string{`{"id":"r1","state":"running","steps":[{"percent":100}]}`, `{"id":"r1","state":"paused","steps":[{"percent":100}]}`, "scribbled over"} {
		put(t, cli, plan, state)
		for name, method := range methods {
			if err := method(false); !errors.Is(err, config.ErrRollout) {
				t.Errorf("%s with the plan %s: %v", name, state, err)
			}
		}
	}
	tells(t, s, key, "published 1", "published 2")
	put(t, cli, key, "others'") // enters the history, which takes nothing from the rollout
	tells(t, s, key, "published 1", "published 2", "outside others'")
	for _, name := range []string{"Publish", "Update", "Rollback", "Import", "Delete"} {
		if err := methods[name](true); err != nil {
			t.Errorf("%s all the same: %v", name, err)
		}
	}
	put(t, cli, plan, `{"id":"r1","state":"promoted","steps":[{"percent":100}]}`)
	if err := methods["Publish"](false); err != nil {
		t.Errorf("after the rollout: %v", err)
	}
}
