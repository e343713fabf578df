package retry

import (
	"context"
	"errors"
	"fmt"
	"go/ast"    //nolint:depguard // the list of the standard library that depguard has lacks go/
	"go/build"  //nolint:depguard // as above
	"go/parser" //nolint:depguard // as above
	"go/token"  //nolint:depguard // as above
	"path/filepath"
	"strconv"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outcome is what the exported functions must say; the table in classify.go is not consulted for it.
type outcome struct{ transient, ambiguous, idempotent bool }

var (
	isTransient = outcome{transient: true, idempotent: true}
	isAmbiguous = outcome{ambiguous: true, idempotent: true}
	isFutile    = outcome{ambiguous: true}
	isFinal     = outcome{}
)

func outcomeOf(err error) outcome {
	return outcome{Transient(err), Ambiguous(err), Idempotent(err)}
}

// wantEtcd repeats the table by its meaning, so that an edit of one row is seen here.
var wantEtcd = map[outcome][]error{
	isTransient: {
		rpctypes.ErrGRPCRequestTooManyRequests, rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCLeaderChanged,
		rpctypes.ErrGRPCNotSupportedForLearner, rpctypes.ErrGRPCNotCapable, rpctypes.ErrGRPCInvalidAuthToken,
		rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCWatchCanceled,
	},
	isAmbiguous: {
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeoutDueToConnectionLost,
		rpctypes.ErrGRPCTimeoutWaitAppliedIndex, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCUnhealthy,
		rpctypes.ErrGRPCCanceled, rpctypes.ErrGRPCDeadlineExceeded,
	},
	isFutile: {rpctypes.ErrGRPCNoSpace},
	isFinal: {
		rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCLeaseExist, rpctypes.ErrGRPCKeyNotFound,
		rpctypes.ErrGRPCCompacted, rpctypes.ErrGRPCFutureRev,
		rpctypes.ErrGRPCEmptyKey, rpctypes.ErrGRPCValueProvided, rpctypes.ErrGRPCLeaseProvided,
		rpctypes.ErrGRPCTooManyOps, rpctypes.ErrGRPCDuplicateKey, rpctypes.ErrGRPCInvalidSortOption,
		rpctypes.ErrGRPCInvalidClientAPIVersion, rpctypes.ErrGRPCRequestTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge,
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCAuthFailed, rpctypes.ErrGRPCAuthNotEnabled,
		rpctypes.ErrGRPCInvalidAuthMgmt, rpctypes.ErrGRPCPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGranted,
		rpctypes.ErrGRPCRoleNotGranted, rpctypes.ErrGRPCRoleNotFound, rpctypes.ErrGRPCRoleEmpty,
		rpctypes.ErrGRPCRoleAlreadyExist, rpctypes.ErrGRPCUserNotFound, rpctypes.ErrGRPCUserAlreadyExist,
		rpctypes.ErrGRPCRootUserNotExist, rpctypes.ErrGRPCRootRoleNotExist, rpctypes.ErrGRPCCorrupt,
		rpctypes.ErrGRPCClusterIDMismatch,
		rpctypes.ErrGRPCMemberExist, rpctypes.ErrGRPCPeerURLExist, rpctypes.ErrGRPCMemberNotEnoughStarted,
		rpctypes.ErrGRPCMemberBadURLs, rpctypes.ErrGRPCMemberNotFound, rpctypes.ErrGRPCMemberNotLearner,
		rpctypes.ErrGRPCLearnerNotReady, rpctypes.ErrGRPCTooManyLearners, rpctypes.ErrGRPCNotLeader,
		rpctypes.ErrGRPCBadLeaderTransferee, rpctypes.ErrGRPCWrongDowngradeVersionFormat,
		rpctypes.ErrGRPCInvalidDowngradeTargetVersion, rpctypes.ErrGRPCClusterVersionUnavailable,
		rpctypes.ErrGRPCDowngradeInProcess, rpctypes.ErrGRPCNoInflightDowngrade,
	},
}

func TestAnEtcdErrorHasOneClassInEveryFormItArrivesIn(t *testing.T) {
	t.Parallel()
	rows := 0
	for want, errs := range wantEtcd {
		for _, wire := range errs {
			rows++
			desc := status.Convert(wire).Message()
			forms := map[string]error{
				"raw status":                     wire,
				"status of another code":         status.Error(codes.Unknown, desc),
				"mapped by the client":           rpctypes.Error(wire),
				"text":                           errors.New(wire.Error()),
				"bare text":                      errors.New(desc),
				"watch: text in a status":        rpctypes.Error(status.Error(codes.FailedPrecondition, wire.Error())),
				"watch: bare text in a status":   rpctypes.Error(status.Error(codes.FailedPrecondition, desc)),
				"watch: text of a closed stream": rpctypes.Error(errors.New(wire.Error())),
				"halted keepalive":               clientv3.ErrKeepAliveHalted{Reason: rpctypes.Error(wire)},
			}
			for form, err := range forms {
				for how, err := range map[string]error{
					"":        err,
					"wrapped": fmt.Errorf("put %q: %w", "k", err),
					"joined":  errors.Join(errors.New("while closing"), err),
					"both":    fmt.Errorf("x: %w", errors.Join(err, errors.New("y"))),
				} {
					if got := outcomeOf(err); got != want {
						t.Errorf("%s (%s %s): got %+v, want %+v", desc, form, how, got, want)
					}
					if got := EtcdError(err); got != rpctypes.Error(wire) { //nolint:errorlint // the very variable is promised
						t.Errorf("%s (%s %s): EtcdError is %v", desc, form, how, got)
					}
				}
			}
		}
	}
	// Three rows are errors of the server that rpctypes does not know.
	if want := len(etcdErrors) - 3; rows != want {
		t.Errorf("%d errors are tested, %d are in the table", rows, want)
	}
}

// TestEveryErrorOfRpctypesIsInTheTable reads the source of the rpctypes this module is built with: its
// own table is not exported. A new version of etcd with a new error fails here.
func TestEveryErrorOfRpctypesIsInTheTable(t *testing.T) {
	t.Parallel()
	pkg, err := build.Import("go.etcd.io/etcd/api/v3/v3rpc/rpctypes", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, "error.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		lit, ok := call.Args[1].(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		desc, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if _, ok := etcdErrors[desc]; !ok {
			t.Errorf("rpctypes error %q has no row", desc)
		}
		return true
	})
	if found < 60 {
		t.Errorf("found only %d errors in rpctypes: has the source changed its shape?", found)
	}
}

func TestEveryRowSaysWhy(t *testing.T) {
	t.Parallel()
	for desc, row := range etcdErrors {
		if row.class&known == 0 || row.why == "" {
			t.Errorf("%q: no class or no reason", desc)
		}
	}
	for _, row := range localErrors {
		if row.class&known == 0 || row.why == "" {
			t.Errorf("%v: no class or no reason", row.err)
		}
	}
	for _, row := range grpcTexts {
		if row.class&known == 0 || row.why == "" {
			t.Errorf("%q: no class or no reason", row.text)
		}
	}
	for code, row := range grpcCodes {
		if (row.class&known == 0) != (codes.Code(code) == codes.OK) || row.why == "" {
			t.Errorf("%v: no class or no reason", codes.Code(code))
		}
	}
}

func TestAnUnknownTextIsClassifiedByItsCode(t *testing.T) {
	t.Parallel()
	want := [...]outcome{
		codes.Canceled:           isAmbiguous,
		codes.Unknown:            isAmbiguous,
		codes.InvalidArgument:    isFinal,
		codes.DeadlineExceeded:   isAmbiguous,
		codes.NotFound:           isFinal,
		codes.AlreadyExists:      isFinal,
		codes.PermissionDenied:   isFinal,
		codes.ResourceExhausted:  isAmbiguous,
		codes.FailedPrecondition: isFinal,
		codes.Aborted:            isAmbiguous,
		codes.OutOfRange:         isFinal,
		codes.Unimplemented:      isFinal,
		codes.Internal:           isAmbiguous,
		codes.Unavailable:        isAmbiguous,
		codes.DataLoss:           isFutile,
		codes.Unauthenticated:    isFinal,
		17:                       isAmbiguous, // of a gRPC newer than ours
	}
	for code := codes.Canceled; int(code) < len(want); code++ {
		err := status.Error(code, "something else")
		for form, err := range map[string]error{
			"status":  err,
			"wrapped": fmt.Errorf("get: %w", err),
			"text":    errors.New("watch: " + err.Error()),
		} {
			if got := outcomeOf(err); got != want[code] {
				t.Errorf("%v (%s): got %+v, want %+v", code, form, got, want[code])
			}
		}
		if got := EtcdError(err); got != nil {
			t.Errorf("%v: EtcdError is %v", code, got)
		}
	}
}

func TestErrorsThatAreNotOfEtcd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want outcome
	}{
		{"nil", nil, isFinal},
		{"unknown", errors.New("disk full"), isFinal},
		{"context canceled", context.Canceled, isAmbiguous},
		{"context deadline", fmt.Errorf("put: %w", context.DeadlineExceeded), isAmbiguous},
		{"status of a context", status.FromContextError(context.DeadlineExceeded).Err(), isAmbiguous},
		{"raft dropped", status.Error(codes.Unknown, "raft proposal dropped"), isTransient},
		{"raft stopped", status.Error(codes.Unknown, "raft: stopped"), isTransient},
		{"leader transfer", status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long"), isAmbiguous},
		{"no endpoints", clientv3.ErrNoAvailableEndpoints, isFinal},
		{"old cluster", clientv3.ErrOldCluster, isFinal},
		{"exclusive", clientv3.ErrMutuallyExclusiveCfg, isFinal},
		{"ordering", ordering.ErrNoGreaterRev, isTransient},
		{"halted keepalive", clientv3.ErrKeepAliveHalted{}, isFinal},

		{"refused", status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`), isTransient},
		{"dns", status.Error(codes.Unavailable, `name resolver error: produced zero addresses`), isTransient},
		{"handshake cut", status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: EOF"`), isTransient},
		{"preface", status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: EOF"`), isTransient},
		{"x509", status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`), isFinal},
		{"x509, of an older Go", status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: x509: certificate has expired"`), isFinal},
		{"not tls", status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: first record does not look like a TLS handshake"`), isFinal},
		{"our certificate", status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: remote error: tls: bad certificate"`), isFinal},
		{"eof", status.Error(codes.Unavailable, "error reading from server: EOF"), isAmbiguous},
		{"eof, as the transport says it", status.Error(codes.Unavailable, `connection error: desc = "error reading from server: EOF"`), isAmbiguous},
		{"closing", status.Error(codes.Unavailable, "transport is closing"), isAmbiguous},
		{"keepalive", status.Error(codes.Unavailable, "keepalive ping failed to receive ACK within timeout"), isAmbiguous},
		{"goaway while under way", status.Error(codes.Unavailable, `closing transport due to: connection error: desc = "error reading from server: EOF", received prior goaway: code: NO_ERROR`), isAmbiguous},
		{"goaway before", status.Error(codes.Unavailable, "the stream is rejected because server is draining the connection"), isTransient},
		{"draining", status.Error(codes.Unavailable, "the connection is draining"), isTransient},
		{"refused stream", status.Error(codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM"), isTransient},
		{"reset stream", status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"), isAmbiguous},
		{"no connection in time", status.Error(codes.DeadlineExceeded, "context deadline exceeded while waiting for connections to become ready"), isTransient},
		{"no connection in time, and why", status.Error(codes.DeadlineExceeded, `latest balancer error: connection error: desc = "transport: Error while dialing: connection refused"`), isTransient},
		{"closed client", status.Error(codes.Canceled, "grpc: the client connection is closing"), isFutile},

		// ResourceExhausted is three different things, and its code says none of them.
		{"too many requests", status.Error(codes.ResourceExhausted, "etcdserver: too many requests"), isTransient},
		{"no space", status.Error(codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"), isFutile},
		{"request too large", status.Error(codes.ResourceExhausted, "trying to send message larger than max (3000000 vs. 2097152)"), isFinal},
		{"answer too large", status.Error(codes.ResourceExhausted, "grpc: received message larger than max (3000000 vs. 2097152)"), isFutile},
		{"answer too large for the server", status.Error(codes.ResourceExhausted, "grpc: trying to send message larger than max (3 vs. 2)"), isFutile},
		{"answer too large unpacked", status.Error(codes.ResourceExhausted, "grpc: received message after decompression larger than max 2"), isFutile},
		{"another limit", status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM"), isAmbiguous},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestInAJoinedErrorTheWorstCounts(t *testing.T) {
	t.Parallel()
	noLeader, timeout, denied, space := rpctypes.ErrNoLeader, rpctypes.ErrTimeout, rpctypes.ErrPermissionDenied, rpctypes.ErrNoSpace
	unknown := errors.New("unknown")
	for _, c := range []struct {
		errs []error
		want outcome
	}{
		{[]error{noLeader, rpctypes.ErrLeaderChanged}, isTransient},
		{[]error{noLeader, unknown}, isTransient},
		{[]error{noLeader, timeout}, isAmbiguous},
		{[]error{noLeader, denied}, isFinal},
		{[]error{timeout, denied}, isFutile},
		{[]error{noLeader, space}, isFutile},
		{[]error{unknown, unknown}, isFinal},
		{[]error{noLeader, Permanent(unknown)}, isFinal},
		{[]error{timeout, Permanent(unknown)}, isFinal},
		{[]error{timeout, fmt.Errorf("x: %w", After(1, Permanent(timeout)))}, isFinal},
		{[]error{After(1, noLeader)}, isTransient},
		{[]error{After(1, timeout)}, isAmbiguous},
		{[]error{After(1, unknown)}, isFinal},
	} {
		if got := outcomeOf(errors.Join(c.errs...)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.errs, got, c.want)
		}
		rev := []error{}
		for _, err := range c.errs {
			rev = append([]error{err}, rev...)
		}
		if got := outcomeOf(errors.Join(rev...)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", rev, got, c.want)
		}
	}
}

func TestEtcdErrorFindsTheFirstOfAJoinedError(t *testing.T) {
	t.Parallel()
	err := errors.Join(errors.New("x"), context.Canceled, fmt.Errorf("revoke: %w", rpctypes.ErrGRPCLeaseNotFound), rpctypes.ErrCompacted)
	if got := EtcdError(err); got != rpctypes.ErrLeaseNotFound { //nolint:errorlint // the very variable is promised
		t.Errorf("got %v", got)
	}
	for _, err := range []error{nil, errors.New("x"), context.Canceled, status.Error(codes.Unknown, "raft: stopped")} {
		if got := EtcdError(err); got != nil {
			t.Errorf("EtcdError(%v) is %v", err, got)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add("rpc error: code = Unavailable desc = etcdserver: no leader")
	f.Add("rpc error: code = FailedPrecondition desc = rpc error: code = PermissionDenied desc = etcdserver: permission denied")
	f.Add("watch: rpc error: code = Code(42) desc = ")
	f.Add("rpc error: code = OK desc = x")
	f.Add("rpc error: code =  desc = rpc error: code =  desc = ")
	f.Add("etcdserver: too many requests")
	f.Fuzz(func(t *testing.T, text string) {
		code, desc, ok := parseStatus(text)
		if ok && (code == codes.OK || int(code) >= len(grpcCodes) || len(desc) >= len(text)) {
			t.Errorf("%q: code %v, desc %q", text, code, desc)
		}
		// Whatever a server writes into a description, a text form and a status agree on it.
		if got, want := classify(errors.New(status.Error(codes.Internal, text).Error())), classify(status.Error(codes.Internal, text)); got != want {
			t.Errorf("%q: %b as text, %b as status", text, got, want)
		}
		if c := classify(errors.New(text)); c&known == 0 && c != unknown {
			t.Errorf("%q: class %b", text, c)
		}
	})
}
