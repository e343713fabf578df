package pool

import (
	"context"
	"errors"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream opens a stream that carries a token.
func (t *tokens) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if t == nil {
		return open(ctx, desc, cc, method, opts...)
	}
	own, cancel := context.WithCancel(ctx)
	s := &tokened{tokens: t, lasting: desc.ClientStreams, own: own, cancel: cancel}
	s.open = func(tried int) error {
		carrying, tok, err := t.carry(own)
		if err == nil {
			err = settle(own, tried)
		}
		if err != nil {
			return untokened(ctx, err)
		}
		inner, err := open(carrying, desc, cc, method, opts...)
		if err == nil {
			s.ClientStream, s.token = inner, tok
		}
		return err
	}
	if err := s.open(1); err != nil {
		cancel()
		return nil, err
	}
	context.AfterFunc(s.ClientStream.Context(), func() {
		if s.lasting {
			cancel()
		}
	})
	return s, nil
}

// untokened is why a stream cannot be opened for want of a token. What may go away must look so to clientv3, which else ends
// its watches for good.
func untokened(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, rpctypes.ErrAuthFailed) {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}

// tokened is a stream that carries a token, for as long as etcd takes that. One that goes on for ever then looks like a broken
// connection to clientv3, which opens another and goes on where it was. One with a single request is opened again here.
type tokened struct {
	grpc.ClientStream
	tokens  *tokens
	token   token
	lasting bool
	own     context.Context // ends with the stream, or has it end
	cancel  context.CancelFunc
	open    func(tried int) error // with another token than before
	request any                   // the single one
	begun   bool                  // something was answered
	left    atomic.Bool
}

// Context is that of the stream.
func (s *tokened) Context() context.Context {
	if s.lasting {
		return s.ClientStream.Context()
	}
	return s.own // which stays, if the stream is opened again
}

// SendMsg sends a request. A watch that would be judged by a token which was replaced meanwhile is opened on another stream,
// as are those that are on this one: etcd looks at the token of the stream's beginning whenever a watch is opened.
func (s *tokened) SendMsg(m any) error {
	if req, ok := m.(*pb.WatchRequest); ok && req.GetCreateRequest() != nil {
		if now := s.tokens.now(); now.number != s.token.number || !now.fresh() {
			s.leave()
		}
	}
	if s.left.Load() {
		return errLeft
	}
	s.request = m
	return s.ClientStream.SendMsg(m)
}

// RecvMsg receives an answer. One that refuses the token alone is not seen by anybody.
func (s *tokened) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	for tried := 1; s.refuses(m, err) && s.tokens.refuse(s.token) && tried < maxTokens; tried++ {
		if s.lasting {
			s.leave()
			break
		}
		if s.begun {
			break
		}
		if again := s.open(tried + 1); again != nil {
			err = again
			break
		}
		if err = errors.Join(s.ClientStream.SendMsg(s.request), s.ClientStream.CloseSend()); err != nil {
			break
		}
		err = s.ClientStream.RecvMsg(m)
	}
	s.begun = true
	if err != nil && !s.lasting {
		s.cancel()
	}
	if s.left.Load() {
		return errLeft
	}
	return err
}

// refuses reports whether an answer refuses the token.
func (s *tokened) refuses(m any, err error) bool {
	if err == nil {
		if resp, ok := m.(*pb.WatchResponse); ok && resp.Canceled {
			err = errors.New(resp.CancelReason)
		}
	}
	return err != nil && s.token.number > 0 && refused(err)
}

// leave has clientv3 open another stream.
func (s *tokened) leave() {
	s.left.Store(true)
	s.cancel()
}
