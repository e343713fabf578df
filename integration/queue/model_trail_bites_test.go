package queue_test

import (
	"slices"
	"testing"
)

const (
	modelPlaceA = "100/0000000000001-p"
	modelPlaceB = "100/0000000000002-p.00000000000000ff"
)

// modelSteps is a small queue's life as etcd tells it, by revision: A is claimed, given back and done, B, which has a key and a
// name of its own, is moved, and becomes a dead letter.
func modelSteps() [][]modelChange {
	put := func(key, value string) modelChange { return modelChange{key: key, put: true, value: value} }
	del := func(key string) modelChange { return modelChange{key: key} }
	later := "100/0000000000009-p-d.00000000000000ff"
	return [][]modelChange{
		{put("line/jobs/"+modelPlaceA, "\n1")},
		{put("line/jobs/"+modelPlaceB, `{"id":"b"}`+"\n2")},
		{put("line/claims/"+modelPlaceA, "w"), put("line/claims/"+modelPlaceB, "w"), put("keys/00000000000000ff", "w")}, // 12
		{del("line/claims/" + modelPlaceA), put("line/jobs/"+modelPlaceA, `{"n":1}`+"\n1")},
		{del("line/claims/" + modelPlaceB), del("line/jobs/" + modelPlaceB), del("keys/00000000000000ff"), put("line/jobs/"+later, `{"id":"b"}`+"\n2")},
		{put("line/claims/"+modelPlaceA, "w")}, // 15
		{put("line/claims/"+later, "w"), put("keys/00000000000000ff", "w")},
		{del("line/claims/" + later), del("line/jobs/" + later), del("keys/00000000000000ff"), put("dead/b", "\n2")},
		{del("line/claims/" + modelPlaceA), del("line/jobs/" + modelPlaceA)},
	}
}

func modelBeliefs() modelHistory {
	return modelHistory{deliveries: []modelDelivery{
		{tag: 1, id: "0000000000001-p", token: 12, end: modelBack, outcome: modelAccepted},
		{tag: 2, id: "b", token: 12, end: modelBack, outcome: modelUnknown},
		{tag: 1, id: "0000000000001-p", token: 15, end: modelDone, outcome: modelAccepted},
		{tag: 2, id: "b", token: 16, end: modelDone, outcome: modelRefused},
	}}
}

// modelJudge numbers the steps from 10 on, and judges.
func modelJudge(steps [][]modelChange, h modelHistory) []modelViolation {
	m := newModelTrail()
	var all []modelChange
	for n, step := range steps {
		for _, c := range step {
			c.revision = int64(10 + n)
			if c.put {
				c.created = c.revision
			}
			all = append(all, c)
		}
	}
	m.takeAll(all)
	return m.judge(h)
}

func TestTheTrailFindsNothingWrongWithWhatIsRight(t *testing.T) {
	for _, v := range modelJudge(modelSteps(), modelBeliefs()) {
		t.Errorf("%v", v)
	}
}

func TestTheTrailBites(t *testing.T) {
	for _, c := range []struct {
		what  string
		rule  modelRule
		spoil func(steps [][]modelChange, h *modelHistory)
	}{
		{"a delivery has no claim", modelUnbacked, func(_ [][]modelChange, h *modelHistory) { h.deliveries[0].token = 11 }},
		{"a job is deleted by who has not claimed it", modelClaimless, func(s [][]modelChange, _ *modelHistory) { s[8] = s[8][1:] }},
		{"a job is delivered that is gone", modelUnbacked, func(s [][]modelChange, _ *modelHistory) { s[3] = append(s[3][:1], s[8][1]) }},
		{"a key is not held", modelUnheld, func(s [][]modelChange, _ *modelHistory) { s[6] = s[6][:1] }},
		{"a job is done that nobody was given", modelUngiven, func(_ [][]modelChange, h *modelHistory) { h.deliveries = slices.Delete(h.deliveries, 2, 3) }},
		{"a job is done that was given back", modelUngiven, func(_ [][]modelChange, h *modelHistory) { h.deliveries[2].end = modelBack }},
		{"a job is done, and becomes no dead letter", modelOverdone, func(s [][]modelChange, _ *modelHistory) { s[7] = s[7][:3] }},
		{"a late copy of a push comes when its job has left", modelReborn, func(s [][]modelChange, _ *modelHistory) { s[8] = append(s[8], s[1]...) }},
		{"an acknowledgement does nothing", modelUndone, func(s [][]modelChange, _ *modelHistory) { s[8] = s[8][:1] }},
		{"a late acknowledgement is carried out", modelOverdone, func(_ [][]modelChange, h *modelHistory) { h.deliveries[2].outcome = modelRefused }},
	} {
		t.Run(c.what, func(t *testing.T) {
			steps, h := modelSteps(), modelBeliefs()
			c.spoil(steps, &h)
			found := modelJudge(steps, h)
			if !slices.ContainsFunc(found, func(v modelViolation) bool { return v.rule == c.rule }) {
				t.Errorf("not found: %s; but %v", c.rule, found)
			}
		})
	}
}
