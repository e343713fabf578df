package config

import (
	"fmt"
	"strings"

	"github.com/etcdkit/etcdkit/internal/names"
)

// metaRoot is what all keys begin with that stand beside configuration keys.
const metaRoot = "etcdkit/config/"

// layout is where what belongs to a configuration key is kept. No key's begins like another's: a name holds no empty segment,
// and so not the two slashes that end it here.
type layout struct{ key string }

func (l layout) meta() string            { return metaRoot + l.key + "//" }
func (l layout) head() string            { return l.meta() + "head" }
func (l layout) histories() string       { return l.meta() + "history/" }
func (l layout) history(n int64) string  { return fmt.Sprintf("%s%020d", l.histories(), n) }
func (l layout) rollout() string         { return l.meta() + "rollout/" }
func (l layout) plan() string            { return l.rollout() + "plan" }
func (l layout) candidate() string       { return l.rollout() + "value" }
func (l layout) reports() string         { return l.meta() + "report/" }
func (l layout) report(id string) string { return l.reports() + id }

// rolloutAndReports covers what is below rollout/ and report/, and nothing else: in one range both are seen in one order.
func (l layout) rolloutAndReports() string { return l.meta() + "r" }

func (l layout) reporter(k string) string { return strings.TrimPrefix(k, l.reports()) }

// newLayout checks a configuration key.
func newLayout(key string) (layout, error) {
	if err := names.Path("key", key); err != nil {
		return layout{}, fmt.Errorf("config: %w", err)
	}
	if strings.HasPrefix(strings.TrimPrefix(key, "/")+"/", metaRoot) {
		return layout{}, fmt.Errorf("config: key name %q refused: below %s are the histories of other keys", key, metaRoot)
	}
	return layout{key}, nil
}
