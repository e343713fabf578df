package call

import (
	"runtime"
	"sync"
	"time"
	"weak"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// redialEvery is how often at most a client's connections are dialled anew on our account.
const redialEvery = 500 * time.Millisecond

// redials is when each client was last told to dial. Weak, so that it keeps no client alive.
var redials = struct {
	sync.Mutex
	at map[weak.Pointer[clientv3.Client]]time.Time // guarded by Mutex
}{at: map[weak.Pointer[clientv3.Client]]time.Time{}}

// Redial has the client dial now what it could not reach. By itself gRPC waits longer from failure to failure, up to two
// minutes: after an outage of ten, whatever has its own waits and goes on trying would find etcd minutes late. It does
// nothing to connections that work. Call it when an attempt follows one that failed.
//
// It does nothing either while a connection is being made, or is there to one member at least. ResetConnectBackoff (gRPC 1.83) walks
// through a map of connections without its lock, which ends the process if one is added meanwhile. They are added while the first
// attempts are made, and when the client's endpoints change; not while all of them are waiting to be dialled again.
func Redial(client *clientv3.Client) {
	conn := client.ActiveConnection()
	if conn == nil || conn.GetState() != connectivity.TransientFailure {
		return
	}
	redials.Lock()
	defer redials.Unlock()
	key := weak.Make(client)
	last, known := redials.at[key]
	if known && time.Since(last) < redialEvery {
		return
	}
	if !known {
		runtime.AddCleanup(client, forget, key)
	}
	redials.at[key] = time.Now()
	conn.ResetConnectBackoff()
}

// forget drops a client that is no longer there.
func forget(key weak.Pointer[clientv3.Client]) {
	redials.Lock()
	defer redials.Unlock()
	delete(redials.at, key)
}
