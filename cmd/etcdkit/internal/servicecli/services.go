package servicecli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/exit"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/live"
	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/names"
)

// page is how many keys are read at a time.
const page = 500

// prefixed adds the flag for where instances are, and returns what checks it and ends it in a slash.
func prefixed(c *cobra.Command) func() (string, error) {
	prefix := c.Flags().String("prefix", "services", "what the keys of all services begin with")
	return func() (string, error) {
		if err := names.Path("prefix", *prefix); err != nil {
			return "", exit.Usage(err)
		}
		return *prefix + "/", nil
	}
}

// NewServices returns the command.
func NewServices() *cobra.Command {
	f := &cli.Connection{}
	c := &cobra.Command{
		Use:   "services [NAME]",
		Short: "List services and their instances",
		Long: `List the services that have instances, with how many are in which state; or the instances of one, with how long their
leases last unless they are renewed. Instances that cannot be read are listed as malformed, with the reason. Nothing is changed.

With --watch it goes on until Ctrl-C: on a terminal in place, elsewhere a line for each change, or with -o json an object.

JSON, one object a service: service, time (with --watch), ready, starting, draining, malformed, zones, versions. With NAME one
object an instance: service, id, time and event (with --watch: came, changed, gone), state (ready, starting, draining, malformed), addr,
zone, version, weight, metadata, lease, grantedSeconds, leftSeconds, problem.

Exit codes:
    0  listed
    1  failed, or there is no such service
    2  the command line is wrong
  130  interrupted`,
		Example: `  etcdkit services
  etcdkit services mail --watch
  etcdkit services mail -o json | jq -r 'select(.state=="ready").addr'`,
		Args: cli.Arguments(0, "NAME"),
	}
	f.Register(c.Flags(), "table")
	watch := c.Flags().BoolP("watch", "w", false, "go on showing them")
	below := prefixed(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		prefix, err := below()
		if err != nil {
			return err
		}
		return cli.Run(f, nil, func(ctx context.Context, u *cli.Use, args []string) error {
			v := view{u: u, prefix: prefix}
			if len(args) == 1 {
				if err := names.Path("service", args[0]); err != nil {
					return err
				}
				v.service = args[0]
			}
			switch {
			case *watch && u.Out.Moving() && !u.JSON:
				return live.Show(ctx, u, v.keys(), v.picture)
			case *watch:
				return v.report(ctx)
			}
			return v.list(ctx)
		})(c, args)
	}
	return c
}

// view is what is looked at.
type view struct {
	u       *cli.Use
	prefix  string // of all services
	service string // the one whose instances are shown; none for all services
}

// keys is the prefix of the keys that count.
func (v *view) keys() string {
	if v.service == "" {
		return v.prefix
	}
	return v.prefix + v.service + "/"
}

var errNone = errors.New("no instances")

// list prints what there is.
func (v *view) list(ctx context.Context) error {
	keys, err := v.read(ctx)
	if err != nil {
		return err
	}
	all := instancesOf(v.prefix, v.service, keys)
	if v.service == "" {
		rows := byService(all)
		switch {
		case v.u.JSON:
			for _, s := range rows {
				v.u.Emit(s)
			}
		case len(rows) == 0:
			v.u.Say("no services")
		default:
			cli.Fitted(v.u.Out, serviceHeader, serviceRows(rows), "SERVICE")
		}
		return nil
	}
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", v.service, errNone)
	}
	known, err := leases.Ask(ctx, v.u.Client(), leasesOf(all), false)
	if err != nil {
		return err
	}
	if v.u.JSON {
		for _, i := range all {
			v.u.Emit(i.facts(known))
		}
		return nil
	}
	cli.Fitted(v.u.Out, instanceHeader, instanceRows(all, known), "ID", "STATE", "ADDR", "LEFT")
	return nil
}

// read reads all keys, as of one revision.
func (v *view) read(ctx context.Context) (keys []*mvccpb.KeyValue, err error) {
	from, to, revision := v.keys(), clientv3.GetPrefixRangeEnd(v.keys()), int64(0)
	for more := true; more; {
		resp, err := call.Do(ctx, v.u.Client(), "read the instances", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return v.u.Client().Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(page), clientv3.WithRev(revision))
		})
		if err != nil {
			return nil, err
		}
		keys, revision = append(keys, resp.Kvs...), max(revision, resp.Header.GetRevision())
		if more = resp.More; more {
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
	}
	return keys, nil
}

// picture is what there is on a terminal.
func (v *view) picture(ctx context.Context, s live.State) (live.Picture, error) {
	all := instancesOf(v.prefix, v.service, s.Keys)
	services := byService(all)
	if v.service == "" {
		return live.Picture{
			Title: cli.Plural(len(services), "service", "services"), Header: serviceHeader, Rows: serviceRows(services), Whole: []string{"SERVICE"},
		}, nil
	}
	known, err := leases.Ask(ctx, v.u.Client(), leasesOf(all), false)
	if err != nil {
		return live.Picture{}, err
	}
	title := v.service + ": no instances"
	if len(services) == 1 {
		title = v.service + ": " + services[0].String()
	}
	return live.Picture{Title: title, Header: instanceHeader, Rows: instanceRows(all, known), Whole: []string{"ID", "STATE", "ADDR", "LEFT"}}, nil
}

// report prints what becomes of them.
func (v *view) report(ctx context.Context) error {
	services, instances := map[string]serviceJSON{}, map[string]instance{}
	told := live.CutOff{Use: v.u}
	return live.Follow(ctx, v.u.Client(), v.keys(), 0, func(s live.State) error {
		told.Note(s.Cut)
		all := instancesOf(v.prefix, v.service, s.Keys)
		if v.service == "" {
			services = v.compareServices(services, byService(all))
			return v.u.Out.Err()
		}
		known := map[clientv3.LeaseID]leases.Lease{}
		if v.u.JSON {
			var err error
			if known, err = leases.Ask(ctx, v.u.Client(), leasesOf(all), false); err != nil && ctx.Err() != nil {
				return err
			}
		}
		instances = v.compareInstances(instances, all, known)
		return v.u.Out.Err()
	})
}

// compareServices prints the services that are not as they were.
func (v *view) compareServices(before map[string]serviceJSON, rows []serviceJSON) map[string]serviceJSON {
	now := map[string]serviceJSON{}
	for _, s := range rows {
		now[s.Service] = s
	}
	for name := range before {
		if _, there := now[name]; !there {
			rows = append(rows, serviceJSON{Service: name})
		}
	}
	for _, s := range rows {
		if was, there := before[s.Service]; there && was.same(s) {
			continue
		}
		if v.u.JSON {
			s.Time = time.Now().UTC().Truncate(time.Millisecond)
			v.u.Emit(s)
			continue
		}
		v.u.Out.Print(live.Moment(s.Service + ": " + s.String()))
	}
	return now
}

// compareInstances prints the instances that are not as they were.
func (v *view) compareInstances(before map[string]instance, all []instance, known map[clientv3.LeaseID]leases.Lease) map[string]instance {
	now := map[string]instance{}
	tell := func(event string, i instance) {
		if v.u.JSON {
			o := i.facts(known)
			o.Event, o.Time = event, time.Now().UTC().Truncate(time.Millisecond)
			v.u.Emit(o)
			return
		}
		v.u.Out.Print(live.Moment(fmt.Sprintf("%-7s  %s", event, i.String())))
	}
	for _, i := range all {
		now[i.id] = i
		switch was, there := before[i.id]; {
		case !there:
			tell("came", i)
		case !was.same(i):
			tell("changed", i)
		}
	}
	for id, i := range before {
		if _, there := now[id]; !there {
			tell("gone", i)
		}
	}
	return now
}

// metadataText is metadata in a line.
func metadataText(m map[string]string) string {
	var parts []string
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, " ")
}
