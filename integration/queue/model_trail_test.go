package queue_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// modelChange is one event of etcd's own, under a queue's root.
type modelChange struct {
	revision int64
	key      string // below the root
	put      bool
	created  int64 // the key's create revision, of a put
	value    string
}

// Rules of what may happen to a queue's keys, by whoever's hand.
const (
	modelUnbacked  modelRule = "a delivery without a claim"
	modelClaimless modelRule = "a job was deleted, or moved, without its claim"
	modelUnheld    modelRule = "a keyed job was claimed without its key"
	modelUngiven   modelRule = "a job is done that nobody was done with"
	modelUndone    modelRule = "an acknowledgement that was accepted has not deleted its job"
	modelOverdone  modelRule = "an acknowledgement that was refused has deleted its job"
	modelReborn    modelRule = "a job that was done, or moved, is there again"
)

// modelFate is what ended a claim.
type modelFate int

const (
	modelHeld    modelFate = iota // nothing yet
	modelEnded                    // the job is done, and gone
	modelWaiting                  // the job waits, or is a dead letter
	modelRobbed                   // the claim is gone, and the job is as it was
)

// modelClaim is a claim as etcd saw it.
type modelClaim struct {
	token int64
	place string
	id    string
	value string // the worker
	fate  modelFate
}

// modelTrail is what etcd's events say. It takes them by revision.
type modelTrail struct {
	jobs   map[string]string      // by place, the ID
	claims map[string]*modelClaim // by place, those that are held
	holds  map[string]bool        // by hash
	all    map[int64][]*modelClaim
	first  map[string]int64 // by ID, the token of its first claim
	gone   map[string]int64 // by place, when a job was deleted there
	found  []modelViolation
}

func newModelTrail() *modelTrail {
	return &modelTrail{
		jobs: map[string]string{}, claims: map[string]*modelClaim{}, holds: map[string]bool{},
		all: map[int64][]*modelClaim{}, first: map[string]int64{}, gone: map[string]int64{},
	}
}

func (m *modelTrail) violated(rule modelRule, format string, args ...any) {
	m.found = append(m.found, modelViolation{rule, fmt.Sprintf(format, args...)})
}

// takeAll takes all events, in order.
func (m *modelTrail) takeAll(changes []modelChange) {
	for first := 0; first < len(changes); {
		last := first + 1
		for last < len(changes) && changes[last].revision == changes[first].revision {
			last++
		}
		m.take(changes[first:last])
		first = last
	}
}

// take takes the events of one revision.
func (m *modelTrail) take(changes []modelChange) {
	rev := changes[0].revision
	put := map[string]bool{}     // places of jobs, of this revision
	written := map[string]bool{} // IDs that are there thereafter, as a job or as a dead letter
	gone := map[string]bool{}    // keys
	for _, c := range changes {
		gone[c.key] = !c.put
		switch kind, rest := modelKind(c.key); {
		case kind == "job" && c.put:
			put[rest] = true
			id := modelID(c.value, rest)
			written[id] = true
			m.jobs[rest] = id
			if at, was := m.gone[rest]; was {
				m.violated(modelReborn, "%s, at revision %d, after %d", rest, rev, at)
			}
		case kind == "dead" && c.put:
			written[rest] = true
		case kind == "hold":
			m.holds[rest] = c.put
		}
	}
	for _, c := range changes {
		if kind, place := modelKind(c.key); kind == "claim" && !c.put {
			m.unclaimed(place, gone["line/jobs/"+place], put[place], written)
		}
	}
	for _, c := range changes {
		switch kind, place := modelKind(c.key); {
		case kind == "job" && !c.put:
			if !gone["line/claims/"+place] {
				m.violated(modelClaimless, "%s, revision %d", place, rev)
			}
			delete(m.jobs, place)
			m.gone[place] = rev
		case kind == "claim" && c.put:
			m.claimed(c, place)
		}
	}
}

func (m *modelTrail) claimed(c modelChange, place string) {
	id := m.jobs[place] // none if it is gone: many are claimed at once, and such a claim is let go without a delivery
	if _, hash, keyed := strings.Cut(place, "."); keyed && !m.holds[hash] {
		m.violated(modelUnheld, "%s, revision %d", place, c.revision)
	}
	claim := &modelClaim{token: c.created, place: place, id: id, value: c.value}
	m.claims[place] = claim
	m.all[claim.token] = append(m.all[claim.token], claim)
	if _, before := m.first[id]; !before && id != "" {
		m.first[id] = claim.token
	}
}

// unclaimed notes the end of a claim, and what became of its job with it.
func (m *modelTrail) unclaimed(place string, gone, put bool, written map[string]bool) {
	claim := m.claims[place]
	if claim == nil {
		return
	}
	delete(m.claims, place)
	switch {
	case gone && written[claim.id], put:
		claim.fate = modelWaiting
	case gone:
		claim.fate = modelEnded
	default:
		claim.fate = modelRobbed
	}
}

// judge holds what etcd did against what the workers believe.
func (m *modelTrail) judge(h modelHistory) []modelViolation {
	given := map[*modelClaim]*modelDelivery{}
	for n := range h.deliveries {
		d := &h.deliveries[n]
		claim := m.claimOf(d)
		if claim == nil {
			m.violated(modelUnbacked, "%v", d)
			continue
		}
		given[claim] = d
		done := d.end == modelDone || d.end == modelEffect
		switch {
		case done && d.outcome == modelAccepted && claim.fate != modelEnded:
			m.violated(modelUndone, "%v: %+v", d, *claim)
		case done && d.outcome == modelRefused && claim.fate == modelEnded:
			m.violated(modelOverdone, "%v: %+v", d, *claim)
		}
	}
	for _, claims := range m.all {
		for _, claim := range claims {
			if claim.fate != modelEnded {
				continue
			}
			if d := given[claim]; d == nil {
				m.violated(modelUngiven, "%+v", *claim)
			} else if d.end != modelDone && d.end != modelEffect {
				m.violated(modelUngiven, "%v: %+v", d, *claim)
			}
		}
	}
	return m.found
}

// claimOf is the claim of a delivery: of one revision there may be several, of different jobs.
func (m *modelTrail) claimOf(d *modelDelivery) *modelClaim {
	for _, claim := range m.all[d.token] {
		if claim.id == d.id {
			return claim
		}
	}
	return nil
}

// modelKind says what a key is, and which.
func modelKind(key string) (kind, rest string) {
	for _, of := range [][2]string{{"line/jobs/", "job"}, {"line/claims/", "claim"}, {"keys/", "hold"}, {"dead/", "dead"}, {"line/workers/", "worker"}} {
		if rest, ok := strings.CutPrefix(key, of[0]); ok {
			return of[1], rest
		}
	}
	return "", key
}

// modelID is the ID of a job's record: what the header says, or the place's stem.
func modelID(value, place string) string {
	head, _, _ := strings.Cut(value, "\n")
	if strings.Contains(head, `"id"`) {
		var r struct {
			ID string `json:"id"`
		}
		if json.Unmarshal([]byte(head), &r) == nil && r.ID != "" {
			return r.ID
		}
	}
	_, local, _ := strings.Cut(place, "/")
	local, _, _ = strings.Cut(local, ".")
	return strings.TrimSuffix(local, "-d")
}

// modelTag is the tag of an item in a record, or -1.
func modelTag(value []byte) int {
	_, item, _ := bytes.Cut(value, []byte{'\n'})
	var i struct{ N int }
	if json.Unmarshal(item, &i) != nil {
		n, err := strconv.Atoi(string(item))
		if err != nil {
			return -1
		}
		return n
	}
	return i.N
}
