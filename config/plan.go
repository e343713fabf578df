package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"time"
)

// errMalformedRollout says that the record of a rollout was written by something else.
var errMalformedRollout = errors.New("config: the rollout in etcd is malformed")

// RolloutState is where a rollout stands.
type RolloutState string

const (
	// Running is a rollout that goes on to the next step when enough was reported well for long enough.
	Running RolloutState = "running"

	// Paused is one that stays at its step until it is resumed. What is reported still takes it back.
	Paused RolloutState = "paused"

	// Promoted is one whose value is the key's now.
	Promoted RolloutState = "promoted"

	// Aborted is one that was taken back.
	Aborted RolloutState = "aborted"
)

// Ended reports whether nothing more will come of the rollout.
func (s RolloutState) Ended() bool { return s == Promoted || s == Aborted }

// Step is a part of the instances that runs a rollout's value, and how long it has to do well.
type Step struct {
	// Percent of the instances, above 0 and at most 100, by a hash of key and ID that stays the same: who is in one step is in
	// those after it. It is rounded up, so that it is at least one of those that report when the step begins. Exclusive with
	// Labels.
	Percent float64 `json:"percent,omitempty"`

	// Labels that an instance must have, all of them, to be in the step.
	Labels map[string]string `json:"labels,omitempty"`

	// Soak is how long all of the step's instances must have run the value without a complaint. Less than the
	// TTL of the leases they report under, and a second, counts as that: the death of an instance shows no earlier.
	Soak time.Duration `json:"soak,omitempty"`

	// MinReports is how many instances of the step must have applied the value. Default, and at the least, 1. All who report are
	// waited for, however few are asked for.
	MinReports int `json:"minReports,omitempty"`
}

// record is a rollout as it is in etcd.
type record struct {
	ID      string       `json:"id"`
	State   RolloutState `json:"state"`
	Steps   []Step       `json:"steps"`
	Step    int          `json:"step"` // index of the one that runs
	Author  string       `json:"author,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Cause   string       `json:"cause,omitempty"` // of the state: why it was aborted or paused, and by whom
	Base    int64        `json:"base"`            // ModRevision of the key when the rollout began; 0 if there was none
	Started time.Time    `json:"started"`
	Changed time.Time    `json:"changed"`

	// Threshold is the highest hash that is in by percent. It never shrinks. All steps so far count, so the labels of those
	// before do too.
	Threshold uint64 `json:"threshold"`

	// Counted is how many instances reported when Threshold was computed for this step; 0 if that is still to be done.
	Counted int `json:"counted"`

	// Sum is the SHA-256 of the rollout's value, by which one that was changed by other means is told.
	Sum string `json:"sum"`

	// Applied holds the incarnation of each instance that has applied the value and has not left since, as of revision Seen. A driver
	// goes on from there: it reads what was reported after Seen, also while nobody drove.
	Applied map[string]string `json:"applied,omitempty"`
	Seen    int64             `json:"seen"`

	// CheckEvery and CheckWithin are those of the Plan, for whoever resumes it.
	CheckEvery  time.Duration `json:"checkEvery,omitempty"`
	CheckWithin time.Duration `json:"checkWithin,omitempty"`
}

// includes reports whether an instance is to run the rollout's value. It depends on what is in the record alone, so that all
// who read it agree.
func (r *record) includes(key string, i Identity) bool {
	if r.State.Ended() {
		return false
	}
	for _, s := range r.Steps[:r.Step+1] {
		if r.selects(s, key, i) {
			return true
		}
	}
	return false
}

// selects reports whether an instance is one of a step's, those of the steps before it aside.
func (r *record) selects(s Step, key string, i Identity) bool {
	if len(s.Labels) > 0 {
		return matches(i.Labels, s.Labels)
	}
	return s.Percent > 0 && r.Threshold > 0 && position(key, i.ID) <= r.Threshold
}

// now is the step that runs.
func (r *record) now() Step {
	if r.Step >= len(r.Steps) {
		return Step{} // of one that has ended, and was written by something else
	}
	return r.Steps[r.Step]
}

// at returns a copy of the record that stands at another step, which is to begin with the instances that report.
func (r *record) at(step int, key string, ids []string) *record {
	n := *r
	n.Step, n.Counted = step, 0
	n.count(key, ids)
	return &n
}

// count sets the threshold of the step that runs by the instances that report. Without any it is left for later.
func (r *record) count(key string, ids []string) {
	s := r.now()
	if s.Percent <= 0 {
		return
	}
	r.Threshold = max(r.Threshold, threshold(key, s.Percent, ids))
	r.Counted = len(ids)
}

// matches reports whether labels hold all of those wanted.
func matches(labels, wanted map[string]string) bool {
	for k, v := range wanted {
		if has, there := labels[k]; !there || has != v {
			return false
		}
	}
	return true
}

// position is where an instance stands among those of a key, from 1: the same for all who ask, and another for each key, so that not
// always the same instances go first.
func position(key, id string) uint64 {
	sum := sha256.Sum256([]byte(key + "\x00" + id))
	return max(1, binary.BigEndian.Uint64(sum[:8]))
}

// threshold is the highest position that is in when so many percent of these instances are, rounded up. Of none it is 0, unless all
// are in.
func threshold(key string, percent float64, ids []string) uint64 {
	switch {
	case percent >= 100:
		return math.MaxUint64
	case len(ids) == 0:
		return 0
	}
	positions := make([]uint64, len(ids))
	for i, id := range ids {
		positions[i] = position(key, id)
	}
	slices.Sort(positions)
	// What floating point adds to a whole number must not round it up.
	k := int(math.Ceil(percent*float64(len(ids))/100 - 1e-9))
	return positions[min(max(k, 1), len(ids))-1]
}

// decodeRecord reads a rollout. What it returns has a step that runs, unless it has ended.
func decodeRecord(value []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(value, r); err != nil || r.ID == "" || r.Step < 0 {
		return nil, errMalformedRollout
	}
	switch r.State {
	case Promoted, Aborted:
		return r, nil
	case Running, Paused:
		if r.Step < len(r.Steps) {
			return r, nil
		}
	}
	return nil, errMalformedRollout
}

// sumOf is a value's Sum.
func sumOf(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}
