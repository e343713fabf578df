package queue_test

import (
	"testing"

	"github.com/etcdkit/etcdkit/integration/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }
