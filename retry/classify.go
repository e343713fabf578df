package retry

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/internal/cause"
)

// Transient reports whether err says that nothing was written and that trying again may help. It is
// the default of Policy.Retryable, and safe for any call.
//
// Wrapped and joined errors are seen through: one that is not transient outweighs all that are, and
// errors the table does not know count only if there is no other. Transient(nil) is false. Safe for
// concurrent use, like all functions here.
func Transient(err error) bool { return classify(err) == transient }

// Ambiguous reports whether err leaves open if the call was applied: the answer was lost, or the server
// stopped waiting for it. It may also be applied later. It answers for writes; for a read it means only
// that there is no answer.
//
// context.Canceled and context.DeadlineExceeded are ambiguous, whoever's context it was: a request that
// was sent is not taken back by not waiting for it. In a joined error one ambiguous error is enough,
// unless one is marked [Permanent]. Ambiguous(nil) is false.
func Ambiguous(err error) bool { return classify(err)&maybe != 0 }

// Idempotent reports whether trying again may help a call that may be repeated safely: err is
// [Transient], or it is [Ambiguous] for a reason that may go away. Put it into Policy.Retryable for
// reads and for conditional or otherwise idempotent writes, and for nothing else: an unconditional
// write that it repeats may be applied twice, the second time over what somebody else wrote between.
//
// Ambiguous and not worth repeating are a full database, an answer too large to receive and a closed
// client.
func Idempotent(err error) bool { return classify(err)&again != 0 }

// EtcdError returns the etcd error that err is or wraps, in whatever form it arrived (mapped by the
// client, a raw gRPC status, the text a cancelled watch gives), or nil if there is none. The result is
// one of the client-side variables of package rpctypes, to compare with == or in a switch:
//
//	switch retry.EtcdError(err) {
//	case rpctypes.ErrLeaseNotFound: // the session is lost; for a revoke, done
//	case rpctypes.ErrCompacted: // read again
//	}
//
// In a joined error the first one found counts.
func EtcdError(err error) error {
	var found error
	visit(err, func(f finding) bool {
		found = f.etcd
		return found == nil
	})
	return found
}

// class is what an error says about its call, as bits that combine: see join.
type class uint8

const (
	known class = 1 << iota // a row of the table knows the error
	again                   // the same call may succeed later
	maybe                   // it may have been applied, now or later

	unknown   class = 0
	permanent       = known                 // not applied; a repeat gets the same answer
	transient       = known | again         // not applied; a repeat may succeed
	ambiguous       = known | again | maybe // may be applied; a repeat, if it is safe, may succeed
	futile          = known | maybe         // may be applied; a repeat cannot succeed before somebody acts
)

// join is the class of two errors that happened in one call: it may have been applied if either says
// so, and is worth repeating only if both do. An unknown error says neither.
func (c class) join(d class) class {
	switch {
	case c == unknown:
		return d
	case d == unknown:
		return c
	}
	return known | (c|d)&maybe | c&d&again
}

// etcdErrors is every error of rpctypes, and those of the server that reach the client without being
// one (with code Unknown). They are matched by their text, because that is the only thing all their
// forms share: the server sends some under another code than the client maps them to
// (ErrTooManyRequests arrives as Unknown), and a watch sends nothing but text.
var etcdErrors = indexed([]etcdRow{
	{rpctypes.ErrGRPCRequestTooManyRequests, transient, "refused before it was proposed"},
	{rpctypes.ErrGRPCNoLeader, transient, "raised before the handler, for requests that require a leader"},
	{rpctypes.ErrGRPCLeaderChanged, transient, "only reads (read index, time to live) wait for this"},
	{errors.New("raft proposal dropped"), transient, "not proposed"},
	{errors.New("raft: stopped"), transient, "not proposed"},
	{rpctypes.ErrGRPCNotSupportedForLearner, transient, "refused at entry; the next endpoint may be a voter"},
	{rpctypes.ErrGRPCNotCapable, transient, "refused at entry; the next endpoint may be newer"},
	{rpctypes.ErrGRPCInvalidAuthToken, transient, "refused at entry; the client fetches a new token"},
	{rpctypes.ErrGRPCAuthOldRevision, transient, "refused at entry: users or roles just changed; the client fetches a new token"},
	{rpctypes.ErrGRPCUserEmpty, transient, "refused at entry: the request went out without its token"},
	{rpctypes.ErrGRPCWatchCanceled, transient, "a watch reads only: open it again"},

	{rpctypes.ErrGRPCTimeout, ambiguous, "the server stopped waiting after it had proposed"},
	{rpctypes.ErrGRPCTimeoutDueToLeaderFail, ambiguous, "as ErrTimeout"},
	{rpctypes.ErrGRPCTimeoutDueToConnectionLost, ambiguous, "as ErrTimeout"},
	{errors.New("etcdserver: request timed out, leader transfer took too long"), ambiguous, "the transfer may go on"},
	{rpctypes.ErrGRPCTimeoutWaitAppliedIndex, ambiguous, "as ErrTimeout"},
	{rpctypes.ErrGRPCStopped, ambiguous, "the member stopped while the request waited; the others may apply it"},
	{rpctypes.ErrGRPCUnhealthy, ambiguous, "raised around changes of membership"},
	{rpctypes.ErrGRPCCanceled, ambiguous, "the server saw a context end while the request waited"},
	{rpctypes.ErrGRPCDeadlineExceeded, ambiguous, "as ErrGRPCCanceled"},

	{rpctypes.ErrGRPCNoSpace, futile, "the quota is checked after the put was applied too; stays until an operator disarms the alarm"},

	// Outcomes that mean something to a recipe: definite, so never repeated as they are.
	{rpctypes.ErrGRPCLeaseNotFound, permanent, "the session is lost; for a revoke, done"},
	{rpctypes.ErrGRPCLeaseExist, permanent, "a grant with this ID was applied before"},
	{rpctypes.ErrGRPCKeyNotFound, permanent, "a put that keeps a value found none"},
	{rpctypes.ErrGRPCCompacted, permanent, "read again, at a newer revision"},
	{rpctypes.ErrGRPCFutureRev, permanent, "a restored cluster or a member that lags: compare revisions"},

	// The caller's mistakes: refused before anything happens.
	{rpctypes.ErrGRPCEmptyKey, permanent, "invalid request"},
	{rpctypes.ErrGRPCValueProvided, permanent, "invalid request"},
	{rpctypes.ErrGRPCLeaseProvided, permanent, "invalid request"},
	{rpctypes.ErrGRPCTooManyOps, permanent, "invalid request: 128 operations by default"},
	{rpctypes.ErrGRPCDuplicateKey, permanent, "invalid request"},
	{rpctypes.ErrGRPCInvalidSortOption, permanent, "invalid request"},
	{rpctypes.ErrGRPCInvalidClientAPIVersion, permanent, "invalid request"},
	{rpctypes.ErrGRPCRequestTooLarge, permanent, "invalid request: 1.5 MiB by default"},
	{rpctypes.ErrGRPCLeaseTTLTooLarge, permanent, "invalid request"},

	// Until an operator acts.
	{rpctypes.ErrGRPCPermissionDenied, permanent, "refused: the role lacks the key"},
	{rpctypes.ErrGRPCAuthFailed, permanent, "refused: wrong user or password"},
	{rpctypes.ErrGRPCAuthNotEnabled, permanent, "refused: credentials for a cluster without authentication"},
	{rpctypes.ErrGRPCInvalidAuthMgmt, permanent, "refused"},
	{rpctypes.ErrGRPCPermissionNotGiven, permanent, "refused"},
	{rpctypes.ErrGRPCPermissionNotGranted, permanent, "refused"},
	{rpctypes.ErrGRPCRoleNotGranted, permanent, "refused"},
	{rpctypes.ErrGRPCRoleNotFound, permanent, "refused"},
	{rpctypes.ErrGRPCRoleEmpty, permanent, "refused"},
	{rpctypes.ErrGRPCRoleAlreadyExist, permanent, "refused"},
	{rpctypes.ErrGRPCUserNotFound, permanent, "refused"},
	{rpctypes.ErrGRPCUserAlreadyExist, permanent, "refused"},
	{rpctypes.ErrGRPCRootUserNotExist, permanent, "refused"},
	{rpctypes.ErrGRPCRootRoleNotExist, permanent, "refused"},
	{rpctypes.ErrGRPCCorrupt, permanent, "a corruption alarm refuses everything"},
	{rpctypes.ErrGRPCClusterIDMismatch, permanent, "another cluster than the one asked for"},

	// Administration of the cluster, which no recipe uses.
	{rpctypes.ErrGRPCMemberExist, permanent, "administration"},
	{rpctypes.ErrGRPCPeerURLExist, permanent, "administration"},
	{rpctypes.ErrGRPCMemberNotEnoughStarted, permanent, "administration"},
	{rpctypes.ErrGRPCMemberBadURLs, permanent, "administration"},
	{rpctypes.ErrGRPCMemberNotFound, permanent, "administration"},
	{rpctypes.ErrGRPCMemberNotLearner, permanent, "administration"},
	{rpctypes.ErrGRPCLearnerNotReady, permanent, "administration"},
	{rpctypes.ErrGRPCTooManyLearners, permanent, "administration"},
	{rpctypes.ErrGRPCNotLeader, permanent, "administration"},
	{rpctypes.ErrGRPCBadLeaderTransferee, permanent, "administration"},
	{rpctypes.ErrGRPCWrongDowngradeVersionFormat, permanent, "administration"},
	{rpctypes.ErrGRPCInvalidDowngradeTargetVersion, permanent, "administration"},
	{rpctypes.ErrGRPCClusterVersionUnavailable, permanent, "administration"},
	{rpctypes.ErrGRPCDowngradeInProcess, permanent, "administration"},
	{rpctypes.ErrGRPCNoInflightDowngrade, permanent, "administration"},
})

// localErrors are those that never were on the wire. They match as errors.Is does.
var localErrors = []localRow{
	{context.Canceled, ambiguous, "a request that was sent is not taken back"},
	{context.DeadlineExceeded, ambiguous, "a request that was sent is not taken back"},
	{clientv3.ErrNoAvailableEndpoints, permanent, "the client's configuration has no endpoint"},
	{clientv3.ErrOldCluster, permanent, "the cluster is older than the client accepts"},
	{clientv3.ErrMutuallyExclusiveCfg, permanent, "the client's configuration contradicts itself"},
	{ordering.ErrNoGreaterRev, transient, "a read: all members asked lag behind; they catch up"},
	{ErrBreakerOpen, transient, "nothing was sent"},
	{ErrConnectTimeout, transient, "no connection, so nothing was sent"},
}

// grpcTexts are errors that gRPC itself makes, where the text says more than the code. The first that
// matches counts.
var grpcTexts = []textRow{
	{codes.Unavailable, "x509: ", permanent, "no connection, so nothing was sent; a certificate does not become right by itself"},
	{codes.Unavailable, "transport: authentication handshake failed: tls: ", permanent, "as x509: versions or protocols do not match"},
	{codes.Unavailable, "transport: authentication handshake failed: remote error: tls: ", permanent, "as x509: the server refused our certificate"},
	{codes.Unavailable, "transport: authentication handshake failed: ", transient, "no connection, so nothing was sent"},
	{codes.Unavailable, "transport: Error while dialing: ", transient, "no connection, so nothing was sent"},
	{codes.Unavailable, "error reading server preface: ", transient, "no connection yet, so nothing was sent"},
	{codes.Unavailable, "name resolver error: ", transient, "no address, so nothing was sent"},
	{codes.Unavailable, "the connection is draining", transient, "the stream was not created"},
	{codes.Unavailable, "the stream is rejected because server is draining the connection", transient, "the server says that it did not process it"},
	{codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM", transient, "the server says that it did not process it"},
	{codes.DeadlineExceeded, "while waiting for connections to become ready", transient, "the deadline passed before there was a connection"},
	{codes.DeadlineExceeded, "latest balancer error: ", transient, "the deadline passed before there was a connection"},
	{codes.Canceled, "grpc: the client connection is closing", futile, "closed by our side, before the call or during it"},
	{codes.ResourceExhausted, "grpc: trying to send message larger than max", futile, "the server's answer is too large: the request was processed"},
	{codes.ResourceExhausted, "trying to send message larger than max", permanent, "our request is too large: it was not sent"},
	{codes.ResourceExhausted, "grpc: received message larger than max", futile, "an answer too large for us, or a request for the server: the texts are the same"},
	{codes.ResourceExhausted, "grpc: received message after decompression larger than max", futile, "as above"},
}

// grpcCodes is what is left when the text says nothing.
var grpcCodes = [...]codeRow{
	codes.OK:                 {unknown, "not an error"},
	codes.Canceled:           {ambiguous, "somebody on the way stopped waiting"},
	codes.Unknown:            {ambiguous, "the server reports errors it has no code for after processing, too"},
	codes.InvalidArgument:    {permanent, "refused before anything happened"},
	codes.DeadlineExceeded:   {ambiguous, "somebody on the way stopped waiting"},
	codes.NotFound:           {permanent, "a definite answer"},
	codes.AlreadyExists:      {permanent, "a definite answer"},
	codes.PermissionDenied:   {permanent, "refused before anything happened"},
	codes.ResourceExhausted:  {ambiguous, "some limit on the way; the text did not say on which way"},
	codes.FailedPrecondition: {permanent, "a definite answer"},
	codes.Aborted:            {ambiguous, "etcd does not use it; a proxy may, at any point"},
	codes.OutOfRange:         {permanent, "a definite answer"},
	codes.Unimplemented:      {permanent, "no handler, so nothing happened"},
	codes.Internal:           {ambiguous, "a broken frame or message, on the way there or back"},
	codes.Unavailable:        {ambiguous, "the connection broke (EOF, keepalive, closing, GOAWAY) and the answer is lost"},
	codes.DataLoss:           {futile, "nobody knows; etcd's own is ErrCorrupt"},
	codes.Unauthenticated:    {permanent, "refused before anything happened; an expired etcd token has its own row"},
}

type (
	etcdRow struct {
		err   error
		class class
		why   string
	}
	localRow struct {
		err   error
		class class
		why   string
	}
	textRow struct {
		code  codes.Code
		text  string // anywhere in the description
		class class
		why   string
	}
	codeRow struct {
		class class
		why   string
	}
)

// indexed makes a map of the rows by their text.
func indexed(rows []etcdRow) map[string]etcdRow {
	m := make(map[string]etcdRow, len(rows))
	for _, row := range rows {
		m[rpctypes.ErrorDesc(row.err)] = row
	}
	return m
}

// finding is what the table says about one error of a tree of wrapped and joined ones.
type finding struct {
	class class
	etcd  error // the client-side variable of rpctypes, if it is one
}

func classify(err error) class {
	if err == nil {
		return unknown
	}
	if IsPermanent(err) {
		return permanent
	}
	c := unknown
	visit(err, func(f finding) bool {
		c = c.join(f.class)
		return true
	})
	return c
}

// visit calls yield with what is known of each error in the tree below err, until it returns false. It
// asks the outermost error that a row knows: what that one wraps is its cause, and not a second error.
func visit(err error, yield func(finding) bool) bool {
	switch e := err.(type) { //nolint:errorlint // this is what unwraps, and it must see each layer
	case nil:
		return true
	case *gaveUpError:
		return e.visit(yield)
	case *settledError: // whose code is for the client
		return visit(e.err, yield)
	case *cause.WithoutError:
		return visit(e.Err, yield)
	case *connectError:
		if e.cause != nil {
			return visit(e.cause, yield) // a certificate does not become right by itself
		}
		return yield(finding{class: transient})
	case rpctypes.EtcdError:
		return yield(byStatus(e.Code(), e.Error()))
	case clientv3.ErrKeepAliveHalted:
		return visit(e.Reason, yield)
	case interface{ GRPCStatus() *status.Status }:
		if st := e.GRPCStatus(); st != nil {
			return yield(byStatus(st.Code(), st.Message()))
		}
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return visit(inner, yield)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if !visit(inner, yield) {
				return false
			}
		}
		return true
	}
	for _, row := range localErrors {
		if errors.Is(err, row.err) {
			return yield(finding{class: row.class})
		}
	}
	return yield(byText(err.Error()))
}

// visit leaves out the caller's context, which says nothing about what the attempts did, and lets an
// earlier attempt add that it may have been applied, but not that it is worth repeating: that is for
// the last one to say.
func (e *gaveUpError) visit(yield func(finding) bool) bool {
	if e.last == nil {
		return yield(finding{class: permanent}) // fn was never called
	}
	if e.doubt == nil {
		return visit(e.last, yield)
	}
	last := classify(e.last)
	if !visit(e.last, yield) {
		return false
	}
	return yield(finding{class: known | last&again | maybe})
}

// byStatus looks up a gRPC status, or what is left of one.
func byStatus(code codes.Code, desc string) finding {
	// A watch puts the whole text of an error into the description of another. It nests once or twice;
	// the bound is for texts made to nest for ever.
	for range 8 {
		innerCode, innerDesc, ok := parseStatus(desc)
		if !ok {
			break
		}
		code, desc = innerCode, innerDesc
	}
	if row, ok := etcdErrors[desc]; ok {
		f := finding{class: row.class}
		if _, ok := status.FromError(row.err); ok {
			f.etcd = rpctypes.Error(row.err)
		}
		return f
	}
	for _, row := range grpcTexts {
		if code == row.code && strings.Contains(desc, row.text) {
			return finding{class: row.class}
		}
	}
	if int(code) < len(grpcCodes) {
		return finding{class: grpcCodes[code].class}
	}
	return finding{class: grpcCodes[codes.Unknown].class}
}

// byText looks up an error of which only the text is left: that of a gRPC status or of an etcd error.
func byText(text string) finding {
	code, desc, ok := parseStatus(text)
	if !ok {
		if _, ok := etcdErrors[text]; !ok {
			return finding{}
		}
		code, desc = codes.Unknown, text
	}
	return byStatus(code, desc)
}

// parseStatus takes apart the text of a gRPC status, "rpc error: code = X desc = Y", wherever it begins
// in text. A code that it does not know is Unknown.
func parseStatus(text string) (codes.Code, string, bool) {
	_, rest, ok := strings.Cut(text, "rpc error: code = ")
	if !ok {
		return 0, "", false
	}
	name, desc, ok := strings.Cut(rest, " desc = ")
	if !ok {
		return 0, "", false
	}
	for code := range codes.Code(len(grpcCodes)) {
		if name == code.String() && code != codes.OK {
			return code, desc, true
		}
	}
	return codes.Unknown, desc, true
}
