package follow_test

import (
	"context"
	"fmt"
	"path"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

// streams counts the watch streams that a client has open. Each is one on the server, too.
type streams struct{ n atomic.Int64 }

func (s *streams) dial(c *etcdtest.Cluster) *clientv3.Client {
	return c.Dial(clientv3.Config{DialOptions: s.options()})
}

func (s *streams) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainStreamInterceptor(func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		open grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		stream, err := open(ctx, desc, cc, method, opts...)
		if err == nil && path.Base(method) == "Watch" {
			s.n.Add(1)
			context.AfterFunc(stream.Context(), func() { s.n.Add(-1) })
		}
		return stream, err
	})}
}

func (s *streams) open() int { return int(s.n.Load()) }

// ended is for etcdtest.Eventually.
func (s *streams) ended(context.Context) error {
	if n := s.open(); n != 0 {
		return fmt.Errorf("%d are open", n)
	}
	return nil
}

// mostWithin returns how many were open at most during the given time.
func (s *streams) mostWithin(d time.Duration) int {
	most := s.open()
	for end := time.After(d); ; {
		select {
		case <-end:
			return most
		case <-time.After(time.Millisecond):
			most = max(most, s.open())
		}
	}
}

// clientConfig is one of a client whose streams are counted.
func clientConfig(s *streams) clientv3.Config { return clientv3.Config{DialOptions: s.options()} }
