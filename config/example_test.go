package config_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcdkit/etcdkit/config"
)

// Limits is what operators put under /config/mail/limits, as YAML or JSON:
//
//	rate: 100
//	timeout: 2s
type Limits struct {
	Rate    int           `json:"rate"`
	Timeout time.Duration `json:"timeout"`
}

// validate refuses limits that would stop the service.
func validate(l Limits) error {
	if l.Rate < 1 {
		return errors.New("rate must be at least 1")
	}
	return nil
}

// A server that always uses the newest good limits: handlers call Get where they need them.
func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	limits, err := config.Open(ctx, client, "/config/mail/limits", &config.Options[Limits]{
		Default:  &Limits{Rate: 100, Timeout: 2 * time.Second},
		Validate: validate,
	})
	if err != nil {
		panic(err)
	}
	defer limits.Close()

	http.HandleFunc("/send", func(_ http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limits.Get().Timeout)
		defer cancel()
		send(ctx)
	})
	http.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		// For people and for an alert. Not for a probe that stops the service: it works, with the last good limits.
		if err := limits.Err(); err != nil && !errors.Is(err, config.ErrAbsent) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: time.Second}
	log.Print(server.ListenAndServe())
}

// What has to be told of a change, instead of asking, ranges over them.
func ExampleValue_Changes() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	rate, err := config.Open[int](ctx, client, "/config/mail/rate", nil) // 100, as etcdctl put it
	if err != nil {
		panic(err)
	}
	defer rate.Close()

	for s := range rate.Changes(ctx) { // the current one first
		log.Printf("rate is %d, by revision %d", s.Value, s.Revision)
	}
}

func send(context.Context) {}

// A logger's level that follows a key: etcdctl put /config/mail/level debug. Bind applies the present level first, and then each
// that is put; one that is no level is refused, and the last good one stays.
func ExampleValue_Bind() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	level := zap.NewAtomicLevel()
	logging := zap.NewProductionConfig()
	logging.Level = level
	logger := zap.Must(logging.Build())

	initial := zapcore.InfoLevel
	levels, err := config.Open(ctx, client, "/config/mail/level", &config.Options[zapcore.Level]{Default: &initial, Logger: logger})
	if err != nil {
		panic(err)
	}
	defer levels.Close()
	_, err = levels.Bind(func(_, next zapcore.Level) (commit, abort func(), err error) {
		return func() { level.SetLevel(next) }, nil, nil
	})
	if err != nil {
		panic(err)
	}
}
