package configcli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
	"github.com/etcdkit/etcdkit/config"
)

func newStatus(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "status KEY",
		Short: "Which instances run which version of a key",
		Long: `Which instances run which version of a key, and what became of the newest one they were given: applied, refused, or
failed with. Instances are programs that read the key with an Identity; who does not live is not shown.

JSON: key, version, revision and kind of what the key holds; rollout (the ID) if one is under way; instances, each
with instance, labels, state (applied, refused, failed), revision and version of what the state is about, running
(revision of what it runs; 0 is the default), rollout, reason, at, ttl in seconds.`,
		Args: cli.Arguments(1, "KEY"),
		RunE: run(f, func(ctx context.Context, u *use, args []string) error { return u.status(ctx, u.named(args[0])) }),
	}
}

// jsonReport is what an instance has said.
type jsonReport struct {
	Instance string             `json:"instance"`
	Labels   map[string]string  `json:"labels,omitempty"`
	State    config.ReportState `json:"state"`
	Revision int64              `json:"revision"`
	Version  int64              `json:"version,omitempty"` // if the history has that revision
	Running  int64              `json:"running"`
	Rollout  string             `json:"rollout,omitempty"`
	Reason   string             `json:"reason,omitempty"`
	At       time.Time          `json:"at,omitzero"`
	TTL      int64              `json:"ttl,omitempty"`
}

// status prints who runs what.
func (u *use) status(ctx context.Context, key string) error {
	reports, err := u.store.Status(ctx, key)
	if err != nil {
		return err
	}
	v, err := u.store.Get(ctx, key)
	if err != nil && !errors.Is(err, config.ErrAbsent) {
		return err
	}
	absent := err != nil
	versions, err := u.store.History(ctx, key, 0)
	if err != nil {
		return err
	}
	numbers := map[int64]int64{} // by revision
	for _, v := range versions {
		if v.Kind != config.TakenBack {
			numbers[v.Revision] = v.Number
		}
	}
	rollout := ""
	r, err := u.store.Resume(ctx, key, nil)
	switch {
	case err == nil:
		rollout = r.ID()
	case !errors.Is(err, config.ErrNoRollout):
		return err
	}
	if u.JSON {
		u.Emit(statusFacts(key, v, absent, rollout, reports, numbers))
		return nil
	}
	if absent {
		u.Out.Print(u.Out.Paint(screen.Bold, key) + "  does not exist")
	} else {
		u.Out.Print(u.Out.Paint(screen.Bold, key) + "  " + described(v))
	}
	if rollout != "" {
		u.Out.Printf("rollout %s is under way: see rollout status", rollout)
	}
	if len(reports) == 0 {
		u.Out.Print("No instance reports: a program does that reads the key with an Identity.")
		return nil
	}
	rows := make([][]string, len(reports))
	for i, rep := range reports {
		rows[i] = []string{
			rep.Instance, stateOf(rep, v.Revision), runs(rep, numbers), rep.Rollout, cli.Ago(rep.At), rep.Reason,
		}
	}
	cli.Table(u.Out, []string{"INSTANCE", "STATE", "RUNS", "ROLLOUT", "SINCE", "REASON"}, rows)
	return nil
}

// stateOf is the state of an instance.
func stateOf(r config.Report, newest int64) string {
	switch {
	case r.State == "":
		return "unreadable"
	case r.State == config.Applied && r.Rollout == "" && r.Revision < newest:
		return "behind"
	}
	return string(r.State)
}

// runs is what an instance runs.
func runs(r config.Report, numbers map[int64]int64) string {
	switch number := numbers[r.Running]; {
	case r.State == "":
		return ""
	case r.Running == 0:
		return "its default"
	case number > 0:
		return "version " + strconv.FormatInt(number, 10)
	case r.Rollout != "" && r.Running == r.Revision:
		return "the rollout's value"
	}
	return fmt.Sprintf("revision %d", r.Running)
}

// jsonStatus is who runs what.
type jsonStatus struct {
	Key       string             `json:"key"`
	Absent    bool               `json:"absent,omitempty"`
	Version   int64              `json:"version,omitempty"`
	Revision  int64              `json:"revision,omitempty"`
	Kind      config.VersionKind `json:"kind,omitempty"`
	Rollout   string             `json:"rollout,omitempty"`
	Instances []jsonReport       `json:"instances"`
}

func statusFacts(key string, v config.Version, absent bool, rollout string, reports []config.Report, numbers map[int64]int64) jsonStatus {
	s := jsonStatus{Key: key, Absent: absent, Version: v.Number, Revision: v.Revision, Kind: v.Kind, Rollout: rollout, Instances: []jsonReport{}}
	for _, r := range reports {
		s.Instances = append(s.Instances, jsonReport{
			Instance: r.Instance, Labels: r.Labels, State: r.State, Revision: r.Revision, Version: numbers[r.Revision], Running: r.Running,
			Rollout: r.Rollout, Reason: r.Reason, At: r.At, TTL: r.TTL,
		})
	}
	return s
}
