package roles

import (
	"errors"
	"fmt"
	"strings"

	"github.com/etcdkit/etcdkit/internal/names"
	"github.com/etcdkit/etcdkit/queue"
)

// What those who take part can do to others, where all write below one prefix.
const (
	othersInLine = "can delete the place of anybody else in the line, the holder's included, and so take what another has: the layout of keys is etcd's, " +
		"and its permissions tell keys apart, not who put them. The one whose place is gone notices, and its guard refuses what it writes"
	othersAtWork = "can read, change and delete every job, and the claims of other workers"
	othersRead   = "can change nothing"
)

// table is all recipes, as docs/keys.md has their keys.
var table = []Recipe{
	{
		Name: "lock", Of: "lock", Does: "takes a lock, a shared one or permits of a semaphore, waits in line, and hands on",
		Others: othersInLine, check: opaque("lock"), needs: line,
	},
	{
		Name: "election", Of: "election", Does: "campaigns, leads, proclaims, hands over, and observes",
		Others: othersInLine + ". It can also write what another proclaims", check: opaque("election"), needs: line,
	},
	{
		Name: "line-observer", Of: "lock or election", Does: "sees who holds and who waits; observes an election",
		Others: othersRead, check: opaque("lock or election"),
		needs: func(p Params) []Permission { return []Permission{prefix(Read, p.Name+"/", "the line")} },
	},
	{
		Name: "session", Does: "has leases. That takes no permission; to revoke one takes WRITE on all keys that hang on it",
		Others: "can renew any lease whose ID it knows",
	},
	{
		Name: "registry-instance", Of: "service", Does: "registers an instance of a service, keeps it there and drains it",
		Others: "can send callers anywhere: what it registers is whatever it says. Without an ID it can also change and delete the other instances",
		HasID:  true, HasPrefix: true, check: path("service"),
		needs: func(p Params) []Permission {
			if p.ID != "" {
				return []Permission{key(ReadWrite, p.Prefix+"/"+p.Name+"/"+p.ID, "the instance")}
			}
			return []Permission{prefix(ReadWrite, p.Prefix+"/"+p.Name+"/", "instances with any ID")}
		},
	},
	{
		Name: "registry-reader", Of: "service", Does: "discovers the instances of a service",
		Others: othersRead, HasPrefix: true, check: path("service"),
		needs: func(p Params) []Permission {
			return []Permission{prefix(Read, p.Prefix+"/"+p.Name+"/", "the instances")}
		},
	},
	{
		Name: "config-reader", Of: "configuration key", Does: "follows a configuration key, a tree or a map",
		Others: othersRead, check: configuration,
		needs: func(p Params) []Permission { return []Permission{values(Read, p.Name)} },
	},
	{
		Name: "config-instance", Of: "configuration key", Does: "follows a configuration key with an identity, so that rollouts count on it",
		Others: "can report for other instances of the key, unless its ID is given",
		HasID:  true, check: exactly, needs: reporting,
	},
	{
		Name: "config-auditor", Of: "configuration key", Does: "reads values, histories, rollouts and who runs what; compares and exports",
		Others: othersRead, check: configuration,
		needs: func(p Params) []Permission {
			return []Permission{values(Read, p.Name), beside(Read, p.Name, "histories, rollouts and reports")}
		},
	},
	{
		Name: "config-publisher", Of: "configuration key", Does: "publishes, deletes, rolls back and imports, while no rollout is under way",
		Others: "can change what everybody runs who follows the key", check: configuration,
		needs: publishing,
	},
	{
		Name: "config-rollout", Of: "configuration key", Does: "publishes, and rolls out, promotes and takes back",
		Others: "can change what everybody runs who follows the key", check: configuration,
		needs: func(p Params) []Permission {
			if environment(p.Name) {
				return publishing(p)
			}
			return []Permission{
				values(ReadWrite, p.Name),
				beside(Read, p.Name, "the history, the rollout, and what instances run"),
				key(Write, meta(p.Name)+"head", "the state of the history"),
				prefix(Write, meta(p.Name)+"history/", "the versions"),
				prefix(Write, meta(p.Name)+"rollout/", "the rollout"),
			}
		},
	},
	{
		Name: "queue-push", Of: "queue", Does: "pushes jobs without IDs of its own, and without a bound on the depth",
		Others: "can overwrite and delete jobs, though it cannot read them", check: path("queue"),
		needs: func(p Params) []Permission {
			q := queue.Root + p.Name + "//"
			return []Permission{prefix(Write, q+"line/jobs/", "the jobs"), prefix(ReadWrite, q+"pushed/", "what makes a push count once")}
		},
	},
	{
		Name: "queue-push-ids", Of: "queue", Does: "pushes jobs, with IDs, or with a bound on the depth",
		Others: "can read, overwrite and delete jobs", check: path("queue"),
		needs: func(p Params) []Permission {
			q := queue.Root + p.Name + "//"
			return []Permission{
				prefix(ReadWrite, q+"line/jobs/", "the jobs, and how many they are"),
				prefix(ReadWrite, q+"pushed/", "what makes a push count once"),
				prefix(ReadWrite, q+"ids/", "the IDs of jobs in the queue"),
				prefix(ReadWrite, q+"seen/", "the IDs of jobs that were"),
			}
		},
	},
	{
		Name: "queue-work", Of: "queue", Does: "works: claims jobs, acknowledges, puts back, buries",
		Others: othersAtWork, check: path("queue"),
		needs: func(p Params) []Permission {
			q := queue.Root + p.Name + "//"
			return []Permission{
				prefix(Read, q+"line/", "jobs, claims, workers, and whether it is paused"),
				prefix(Write, q+"line/jobs/", "jobs that are done or put back"),
				prefix(Write, q+"line/claims/", "claims"),
				prefix(Write, q+"line/workers/", "the worker itself"),
				prefix(ReadWrite, q+"keys/", "jobs with ordering keys, one at a time"),
				prefix(Write, q+"ids/", "the IDs of jobs that are done"),
				prefix(Write, q+"dead/", "dead letters"),
			}
		},
	},
	{
		Name: "queue-schedule", Of: "queue", Does: "drives periodic jobs",
		Others: "can read, overwrite and delete jobs, and stop others from driving", check: path("queue"),
		needs: func(p Params) []Permission {
			q := queue.Root + p.Name + "//"
			return []Permission{
				prefix(ReadWrite, q+"schedules/", "how far each has come"),
				prefix(ReadWrite, q+"drivers/", "who drives"),
				prefix(ReadWrite, q+"line/jobs/", "the jobs"),
				prefix(ReadWrite, q+"ids/", "whether the last one is done"),
			}
		},
	},
	{
		Name: "queue-observer", Of: "queue", Does: "counts and shows jobs, dead letters and schedules",
		Others: othersRead, check: path("queue"),
		needs: func(p Params) []Permission {
			return []Permission{prefix(Read, queue.Root+p.Name+"//", "all of the queue")}
		},
	},
	{
		Name: "queue-admin", Of: "queue", Does: "counts, shows, redrives, discards, pauses, purges; and pushes, works and schedules",
		Others: othersAtWork + ", and stop all of them", check: path("queue"),
		needs: func(p Params) []Permission {
			return []Permission{prefix(ReadWrite, queue.Root+p.Name+"//", "all of the queue")}
		},
	},
	{
		Name: "topic-publisher", Of: "topic", Does: "publishes messages, and trims old ones",
		Others: "can change and delete every message", check: path("topic"),
		needs: func(p Params) []Permission {
			return []Permission{prefix(ReadWrite, queue.TopicRoot+p.Name+"//", "all of the topic")}
		},
	},
	{
		Name: "topic-subscriber", Of: "topic", Does: "subscribes to messages",
		Others: othersRead, check: path("topic"),
		needs: func(p Params) []Permission {
			return []Permission{prefix(Read, queue.TopicRoot+p.Name+"//", "all of the topic")}
		},
	},
}

func line(p Params) []Permission {
	return []Permission{prefix(ReadWrite, p.Name+"/", "the line: everybody's places, and slots")}
}

// meta is what the keys begin with that stand beside a configuration key.
func meta(name string) string { return "etcdkit/config/" + name + "//" }

// environment reports whether a name is one of all keys below it.
func environment(name string) bool { return strings.HasSuffix(name, "/") }

func values(a Access, name string) Permission {
	if environment(name) {
		return prefix(a, name, "the values")
	}
	return key(a, name, "the value")
}

// beside is all that stands beside a configuration key, or beside those of an environment.
func beside(a Access, name, why string) Permission {
	if environment(name) {
		return prefix(a, "etcdkit/config/"+name, why)
	}
	return prefix(a, meta(name), why)
}

func publishing(p Params) []Permission {
	if environment(p.Name) {
		return []Permission{values(ReadWrite, p.Name), beside(ReadWrite, p.Name, "histories and rollouts")}
	}
	return []Permission{
		values(ReadWrite, p.Name),
		key(ReadWrite, meta(p.Name)+"head", "the state of the history"),
		prefix(ReadWrite, meta(p.Name)+"history/", "the versions"),
		key(Read, meta(p.Name)+"rollout/plan", "whether a rollout is under way"),
	}
}

func reporting(p Params) []Permission {
	reports := prefix(ReadWrite, meta(p.Name)+"report/", "reports of instances with any ID")
	if p.ID != "" {
		reports = key(ReadWrite, meta(p.Name)+"report/"+p.ID, "the instance's report")
	}
	return []Permission{values(Read, p.Name), prefix(Read, meta(p.Name)+"rollout/", "rollouts"), reports}
}

// opaque checks names of lines.
func opaque(kind string) func(string) error {
	return func(name string) error { return names.Opaque(kind, name) }
}

// path checks names of anything else.
func path(kind string) func(string) error {
	return func(name string) error { return names.Path(kind, name) }
}

func segment(kind, name string) error { return names.Segment(kind, name) }

// configuration checks names of configuration keys and, with a slash at their end, of environments.
func configuration(name string) error {
	name = strings.TrimSuffix(name, "/")
	if err := path("key")(name); err != nil {
		return err
	}
	if strings.HasPrefix(strings.TrimPrefix(name, "/")+"/", "etcdkit/config/") {
		return fmt.Errorf("key name %q refused: below etcdkit/config/ are the histories of other keys", name)
	}
	return nil
}

var errOneKey = errors.New("an instance follows one key with an identity: a name without a slash at its end is needed")

// exactly checks names of configuration keys.
func exactly(name string) error {
	if environment(name) {
		return errOneKey
	}
	return configuration(name)
}
