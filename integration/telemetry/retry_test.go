package telemetry_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdkit/etcdkit/retry"
)

func TestFailedAttemptsAreCounted(t *testing.T) {
	before := value(t, "etcdkit.retry.attempts", "etcdkit.retry.again", "true")
	err := retry.Do(t.Context(), retry.Policy{MaxAttempts: 3, Initial: 1, Retryable: retry.Idempotent}, func(context.Context) error { return status.Error(codes.Unavailable, "no") })
	if err == nil {
		t.Fatal("no error")
	}
	if n := value(t, "etcdkit.retry.attempts", "etcdkit.retry.again", "true") - before; n != 2 {
		t.Errorf("%v attempts were counted that were repeated, want 2", n)
	}
}
