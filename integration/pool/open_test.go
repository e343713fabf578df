package pool_test

import (
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/fence"
	"github.com/etcdkit/etcdkit/integration/etcdtest"
	"github.com/etcdkit/etcdkit/lock"
	"github.com/etcdkit/etcdkit/pool"
	"github.com/etcdkit/etcdkit/session"
)

func TestAPoolsClientDoesWhatAClientDoes(t *testing.T) {
	t.Parallel()
	p := open(t, pool.Config{Endpoints: etcdtest.Shared(t).Endpoints()})
	etcd, key := p.Client(), etcdtest.Prefix(t)
	w := etcd.Watch(t.Context(), key, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-w
	put, err := etcd.Put(t.Context(), key, "1")
	if err != nil {
		t.Fatal(err)
	}
	if ev := etcdtest.Receive(t, soon, "the event", w); ev.Events[0].Kv.ModRevision != put.Header.Revision {
		t.Error(ev)
	}
	s, err := session.Open(t.Context(), etcd, nil)
	if err != nil {
		t.Fatal(err)
	}
	held, err := lock.NewMutex(s, key+"lock").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Guard().Commit(t.Context(), etcd, clientv3.OpPut(key, "2")); err != nil {
		t.Error(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := held.Guard().Commit(t.Context(), etcd, clientv3.OpPut(key, "3")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("after the session: %v", err)
	}
	t.Log(p.Stats())
}

func TestOpenSaysWhatEachEndpointDid(t *testing.T) {
	t.Parallel()
	_, err := pool.Open(t.Context(), pool.Config{Endpoints: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}})
	if !errors.Is(err, pool.ErrUnreachable) {
		t.Error(err)
	}
	t.Log(err)
}
