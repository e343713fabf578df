package retry

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Every method of etcd's API, so that one which is new is looked at: what it does when it is done twice, and whether it
// works without a leader.
func TestEveryMethodIsKnown(t *testing.T) {
	t.Parallel()
	want := map[string]methodKind{}
	kinds := func(service string, kind methodKind, methods ...string) {
		for _, m := range methods {
			want["/etcdserverpb."+service+"/"+m] = kind
		}
	}
	read, write := methodKind{repeatable: true, needsLeader: true}, methodKind{needsLeader: true}
	slow, slowRead := methodKind{unbounded: true}, methodKind{repeatable: true, unbounded: true}
	// Range, Txn, MemberList and Alarm are here without a request.
	kinds("KV", write, "Range", "Put", "DeleteRange", "Txn", "Compact")
	kinds("Lease", read, "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases")
	kinds("Auth", read, "Authenticate", "UserGet", "UserList", "RoleGet", "RoleList")
	kinds("Auth", write, "AuthEnable", "AuthDisable", "UserAdd", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole",
		"RoleAdd", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission")
	kinds("Auth", read, "AuthStatus")
	kinds("Cluster", write, "MemberList", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote")
	kinds("Maintenance", methodKind{repeatable: true}, "Status")
	kinds("Maintenance", slowRead, "Hash", "HashKV")
	kinds("Maintenance", slow, "Defragment", "MoveLeader")
	if got := kindOf("/v3lockpb.Lock/Lock", nil); got != slow {
		t.Errorf("the server's lock service is %+v", got)
	}
	kinds("Maintenance", write, "Alarm", "Downgrade")

	for _, service := range []grpc.ServiceDesc{
		pb.KV_ServiceDesc, pb.Lease_ServiceDesc, pb.Auth_ServiceDesc, pb.Cluster_ServiceDesc, pb.Maintenance_ServiceDesc,
	} {
		for _, m := range service.Methods {
			name := "/" + service.ServiceName + "/" + m.MethodName
			expected, known := want[name]
			if !known {
				t.Errorf("%s is new: decide what it is", name)
			}
			if got := kindOf(name, nil); got != expected {
				t.Errorf("%s is %+v, want %+v", name, got, expected)
			}
			delete(want, name)
		}
	}
	for name := range want {
		t.Errorf("%s is no more", name)
	}
}

func TestARequestSaysWhetherItWrites(t *testing.T) {
	t.Parallel()
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{}}}
	old := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Serializable: true}}}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{}}}
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{}}}
	nested := func(ops ...*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: ops}}}
	}
	txn := func(success, failure []*pb.RequestOp) *pb.TxnRequest {
		return &pb.TxnRequest{Success: success, Failure: failure}
	}
	ops := func(o ...*pb.RequestOp) []*pb.RequestOp { return o }
	read, write := methodKind{repeatable: true, needsLeader: true}, methodKind{needsLeader: true}
	for _, c := range []struct {
		name string
		req  any
		want methodKind
	}{
		{"a read", &pb.RangeRequest{}, read},
		{"a serializable read", &pb.RangeRequest{Serializable: true}, methodKind{repeatable: true}},
		{"an empty transaction", txn(nil, nil), methodKind{repeatable: true}},
		{"one that reads what may be old", txn(ops(old), ops(old)), methodKind{repeatable: true}},
		{"one that reads both ways", txn(ops(old), ops(get)), read},
		{"one that reads", txn(ops(get, get), ops(get)), read},
		{"one that reads in another", txn(ops(get, nested(get)), nil), read},
		{"one that puts", txn(ops(get, put), nil), write},
		{"one that deletes otherwise", txn(ops(get), ops(del)), write},
		{"one that puts in another", txn(nil, ops(nested(get, nested(put)))), write},
		{"a compaction", &pb.CompactionRequest{}, write},
		{"one that waits for the database", &pb.CompactionRequest{Physical: true}, methodKind{needsLeader: true, unbounded: true}},
		{"a question for alarms", &pb.AlarmRequest{}, read},
		{"an alarm", &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE}, write},
		{"a list of members", &pb.MemberListRequest{Linearizable: true}, read},
		{"a list that may be old", &pb.MemberListRequest{}, methodKind{repeatable: true}},
	} {
		if got := kindOf("", c.req); got != c.want {
			t.Errorf("%s is %+v, want %+v", c.name, got, c.want)
		}
	}
}
