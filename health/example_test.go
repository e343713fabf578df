package health_test

import (
	"context"
	"errors"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/config"
	"github.com/etcdkit/etcdkit/health"
	"github.com/etcdkit/etcdkit/registry"
)

var errNobody = errors.New("no instance is known")

// Limits is what a service is configured with.
type Limits struct{ RPS int }

// A service that is ready while others can find it and it has been configured, and that an outage of etcd does not restart.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	limits, err := config.Open(ctx, client, "app/limits", &config.Options[Limits]{Default: &Limits{RPS: 100}})
	if err != nil {
		panic(err)
	}
	defer limits.Close()
	mail, err := registry.Watch(ctx, client, "mail", nil)
	if err != nil {
		panic(err)
	}
	defer mail.Close()

	mux := http.NewServeMux()
	mux.Handle("/readyz", health.Readiness(map[string]health.Checker{
		"limits": health.Only(limits, config.ErrAbsent, config.ErrClosed), // stale limits are good enough
		"mail": health.Func(func() error { // and so is a stale view, unless nobody is in it
			if len(mail.Snapshot().Instances) == 0 {
				return errNobody
			}
			return nil
		}),
	}))
	mux.Handle("/livez", health.Liveness(map[string]health.Fatal{
		"limits": health.FatalIf(limits, config.ErrClosed),
		"mail":   health.FatalIf(mail, registry.ErrClosed),
	}))
	server := &http.Server{Addr: "localhost:8081", Handler: mux, ReadHeaderTimeout: time.Second}
	if err := server.ListenAndServe(); err != nil {
		panic(err)
	}
}
