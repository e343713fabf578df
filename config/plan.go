package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

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
}

// includes reports whether an instance is to run the rollout's value. It depends on what is in the record alone, so that all
// who read it agree.
func (r *record) includes(key string, i Identity) bool {
	if r.State.Ended() {
		return false
	}
	for n, s := range r.Steps[:min(r.Step+1, len(r.Steps))] {
		if s.Labels != nil && matches(i.Labels, s.Labels) {
			return true
		}
		if s.Percent > 0 && n <= r.Step && r.Threshold > 0 && position(key, i.ID) <= r.Threshold {
			return true
		}
	}
	return false
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

func decodeRecord(value []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(value, r); err != nil || r.ID == "" || r.Step < 0 || r.Step > len(r.Steps) {
		return nil, fmt.Errorf("config: the rollout in etcd is malformed") //nolint:err113 // nobody tells it from others
	}
	return r, nil
}
