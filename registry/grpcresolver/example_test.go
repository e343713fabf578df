package grpcresolver_test

import (
	"context"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdkit/etcdkit/registry/grpcresolver"
)

// A connection that is spread over the instances of a service, and tries another one where that is safe.
func Example() {
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer etcd.Close()

	conn, err := grpc.NewClient("etcdkit:///mail",
		grpc.WithResolvers(grpcresolver.New(etcd, nil)), // one for all connections of the process
		grpc.WithDefaultServiceConfig(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"methodConfig": [{
				"name": [{"service": "grpc.health.v1.Health"}],
				"retryPolicy": {
					"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
					"retryableStatusCodes": ["UNAVAILABLE"]
				}
			}]
		}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer conn.Close() // before the client: deferred calls run last in, first out

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Without WaitForReady a call fails at once while there is no instance that could take it.
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		log.Print(err)
		return
	}
	log.Print(answer.GetStatus())
}
