package retry

import (
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// methodKind is what a call of etcd's API is.
type methodKind struct {
	repeatable  bool // doing it twice does no harm
	needsLeader bool // a member without a leader cannot answer it
	unbounded   bool // it takes the time that it takes: as long as the database is large, or until a lock is free
}

// local are the calls that a member answers by itself. All others go through its leader, a status of authentication and a list
// of alarms included.
var local = map[string]bool{
	"/etcdserverpb.Maintenance/Status":     true,
	"/etcdserverpb.Maintenance/Hash":       true,
	"/etcdserverpb.Maintenance/HashKV":     true,
	"/etcdserverpb.Maintenance/Defragment": true,
	"/etcdserverpb.Maintenance/MoveLeader": true, // which says itself that there is none
}

// repeatable are the calls without an effect, and those whose effect is the same the second time. Range, Txn, MemberList and Alarm
// are judged by their request.
var repeatable = map[string]bool{
	"/etcdserverpb.Lease/LeaseGrant":      true, // as in the client: one that is not known of ends by itself
	"/etcdserverpb.Lease/LeaseRevoke":     true,
	"/etcdserverpb.Lease/LeaseTimeToLive": true,
	"/etcdserverpb.Lease/LeaseLeases":     true,
	"/etcdserverpb.Maintenance/Status":    true,
	"/etcdserverpb.Maintenance/Hash":      true,
	"/etcdserverpb.Maintenance/HashKV":    true,
	"/etcdserverpb.Auth/Authenticate":     true,
	"/etcdserverpb.Auth/AuthStatus":       true,
	"/etcdserverpb.Auth/UserGet":          true,
	"/etcdserverpb.Auth/UserList":         true,
	"/etcdserverpb.Auth/RoleGet":          true,
	"/etcdserverpb.Auth/RoleList":         true,
}

// slow are the calls that walk through the whole database, or wait for something else than a commit.
var slow = map[string]bool{
	"/etcdserverpb.Maintenance/Defragment": true,
	"/etcdserverpb.Maintenance/Hash":       true,
	"/etcdserverpb.Maintenance/HashKV":     true,
	"/etcdserverpb.Maintenance/MoveLeader": true,
}

// kindOf says what a call is.
func kindOf(method string, req any) methodKind {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return methodKind{repeatable: true, needsLeader: !r.Serializable}
	case *pb.TxnRequest:
		return methodKind{repeatable: readsOnly(r), needsLeader: !serializable(r)}
	case *pb.MemberListRequest:
		return methodKind{repeatable: true, needsLeader: r.Linearizable}
	case *pb.CompactionRequest:
		return methodKind{needsLeader: true, unbounded: r.Physical}
	case *pb.AlarmRequest:
		return methodKind{repeatable: r.Action == pb.AlarmRequest_GET, needsLeader: true}
	}
	if !strings.HasPrefix(method, "/etcdserverpb.") { // the server's lock and election services wait for others
		return methodKind{unbounded: true}
	}
	return methodKind{repeatable: repeatable[method], needsLeader: !local[method], unbounded: slow[method]}
}

// serializable reports whether a member answers a transaction by itself, as etcd's txn.IsTxnSerializable.
func serializable(txn *pb.TxnRequest) bool {
	for _, ops := range [...][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			if r := op.GetRequestRange(); r == nil || !r.Serializable {
				return false
			}
		}
	}
	return true
}

// readsOnly reports whether a transaction writes nothing, whichever way it goes.
func readsOnly(txn *pb.TxnRequest) bool {
	for _, ops := range [...][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			switch r := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
			case *pb.RequestOp_RequestTxn:
				if !readsOnly(r.RequestTxn) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}
