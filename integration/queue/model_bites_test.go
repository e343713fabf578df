package queue_test

import (
	"fmt"
	"slices"
	"testing"
)

// modelGood is a history in which nothing is wrong, of each kind of fate.
func modelGood() modelHistory {
	d := func(tag, attempt int, token int64, from, until modelInstant, end modelEnd, what modelOutcome) modelDelivery {
		key := ""
		if tag >= 4 && tag <= 6 {
			key = "k"
		}
		return modelDelivery{
			tag: tag, id: fmt.Sprint("id", tag), key: key, attempt: attempt, token: token, worker: tag % 3,
			from: from, until: until, end: end, outcome: what, settled: until + 5,
		}
	}
	p := func(tag int, what modelOutcome) modelPush {
		id := fmt.Sprint("id", tag)
		if what != modelAccepted {
			id = ""
		}
		return modelPush{tag: tag, id: id, outcome: what, line: 1}
	}
	keyed := func(p modelPush) modelPush { p.key = "k"; return p }
	effect := func(p modelPush) modelPush { p.effect = true; return p }
	return modelHistory{
		pushes: []modelPush{
			p(1, modelAccepted),
			effect(p(2, modelAccepted)),
			p(3, modelUnknown), // and was carried out
			keyed(p(4, modelAccepted)), keyed(p(5, modelAccepted)), keyed(p(6, modelAccepted)),
			p(7, modelAccepted),          // dies
			p(8, modelAccepted),          // stays
			p(9, modelUnknown),           // and was not
			p(10, modelRefused),          // said to be
			effect(p(11, modelAccepted)), // whose first answer is lost
		},
		deliveries: []modelDelivery{
			d(1, 1, 101, 10, 20, modelBack, modelAccepted), d(1, 2, 102, 30, 40, modelDone, modelAccepted),
			d(2, 1, 111, 10, 20, modelEffect, modelRefused), d(2, 3, 112, 30, 40, modelEffect, modelAccepted),
			d(3, 1, 121, 10, 20, modelDone, modelUnknown),
			d(4, 1, 131, 10, 20, modelBack, modelAccepted), d(5, 1, 132, 30, 40, modelDone, modelAccepted),
			d(4, 2, 133, 50, 60, modelDone, modelAccepted), d(6, 1, 134, 70, 80, modelDone, modelAccepted),
			d(7, 1, 141, 10, 20, modelBack, modelAccepted), d(7, 2, 142, 30, 40, modelBack, modelUnknown),
			d(8, 1, 151, 10, 20, modelDone, modelRefused),
			d(11, 1, 161, 10, 20, modelEffect, modelUnknown),
		},
		tampered: map[int64]bool{},
		effects:  modelEffects{tokens: map[int][]int64{2: {112}, 11: {161}}, count: 2},
		left:     map[int][]string{8: {"id8"}}, dead: map[int][]string{7: {"id7"}},
	}
}

// delivery returns that of a token, to be changed.
func (h *modelHistory) delivery(token int64) *modelDelivery {
	return &h.deliveries[slices.IndexFunc(h.deliveries, func(d modelDelivery) bool { return d.token == token })]
}

// drop takes a delivery out.
func (h *modelHistory) drop(token int64) {
	h.deliveries = slices.DeleteFunc(h.deliveries, func(d modelDelivery) bool { return d.token == token })
}

// again adds a delivery like that of a token, with changes.
func (h *modelHistory) again(token int64, change func(*modelDelivery)) {
	d := *h.delivery(token)
	change(&d)
	h.deliveries = append(h.deliveries, d)
}

func TestTheModelFindsNothingWrongWithWhatIsRight(t *testing.T) {
	for _, v := range modelCheck(modelGood()) {
		t.Errorf("%v", v)
	}
}

// Whatever must not be is found, by the rule that is there for it.
func TestTheModelBites(t *testing.T) {
	for _, c := range []struct {
		what  string
		rule  modelRule
		spoil func(h *modelHistory)
	}{
		{"a job is never delivered", modelLost, func(h *modelHistory) { h.drop(101); h.drop(102) }},
		{"a job given back does not come back", modelLost, func(h *modelHistory) { h.drop(102) }},
		{"a job whose acknowledgement was refused does not come back", modelLost, func(h *modelHistory) { delete(h.left, 8) }},
		{"a job that was kept too long does not come back", modelLost, func(h *modelHistory) { h.delivery(102).end, h.delivery(102).outcome = modelKept, modelUnknown }},
		{"a dead letter is gone", modelLost, func(h *modelHistory) { delete(h.dead, 7); h.delivery(142).outcome = modelAccepted }},
		{"a job of a lost push is lost once it was seen", modelLost, func(h *modelHistory) { h.delivery(121).outcome = modelRefused }},
		{"a job comes from nowhere", modelInvented, func(h *modelHistory) { h.again(102, func(d *modelDelivery) { d.tag, d.token = 99, 300 }) }},
		{"a refused push was made", modelInvented, func(h *modelHistory) { h.again(102, func(d *modelDelivery) { d.tag, d.token = 10, 300 }) }},
		{"a push was made twice", modelDoubled, func(h *modelHistory) {
			h.again(121, func(d *modelDelivery) { d.id, d.token, d.attempt, d.from, d.until = "other", 300, 2, 30, 40 })
		}},
		{"a push returned another ID", modelDoubled, func(h *modelHistory) { h.pushes[0].id = "other" }},
		{"a job is there twice", modelDoubled, func(h *modelHistory) { h.left[8] = []string{"id8", "id8"} }},
		{"a job is there, and dead", modelDoubled, func(h *modelHistory) { h.left[7] = []string{"id7"} }},
		{"two acknowledge", modelTwice, func(h *modelHistory) { h.delivery(101).end = modelDone }},
		{"what was acknowledged stays", modelUndead, func(h *modelHistory) { h.left[1] = []string{"id1"} }},
		{"what was acknowledged is dead", modelDeadTwice, func(h *modelHistory) { h.dead[1] = []string{"id1"} }},
		{"what was acknowledged comes again", modelAfter, func(h *modelHistory) {
			h.again(102, func(d *modelDelivery) {
				d.token, d.attempt, d.from, d.until, d.end, d.outcome = 300, 3, 50, 60, modelDone, modelRefused
			})
		}},
		{"a token comes twice", modelTokens, func(h *modelHistory) { h.delivery(102).token = 101 }},
		{"the older token comes later", modelTokens, func(h *modelHistory) { h.delivery(101).from, h.delivery(101).until = 50, 60 }},
		{"an attempt is not counted", modelAttempts, func(h *modelHistory) { h.delivery(102).attempt = 1 }},
		{"an attempt is counted down", modelAttempts, func(h *modelHistory) { h.delivery(101).attempt = 3 }},
		{"the next begins too early", modelTwoOwn, func(h *modelHistory) { h.delivery(102).from = 19 }},
		{"who is never told", modelTwoOwn, func(h *modelHistory) { h.delivery(111).until = modelNever }},
		{"the next of a key begins too early", modelTwoOfKey, func(h *modelHistory) { h.delivery(132).from = 19 }},
		{"the first of a key comes late", modelOrder, func(h *modelHistory) {
			h.drop(131)
			h.delivery(133).attempt, h.delivery(133).token, h.delivery(133).from, h.delivery(133).until = 1, 300, 90, 95
		}},
		{"an effect under no claim", modelEffectOf, func(h *modelHistory) { h.effects.tokens[2] = []int64{999} }},
		{"an effect of no job", modelEffectOf, func(h *modelHistory) { h.effects.tokens[77] = []int64{5} }},
		{"an effect twice", modelEffects2, func(h *modelHistory) { h.effects.tokens[2] = []int64{111, 112} }},
		{"an effect that came too late", modelLate, func(h *modelHistory) { h.effects.tokens[2] = []int64{111} }},
		{"an acknowledgement without its effect", modelNoEffect, func(h *modelHistory) { delete(h.effects.tokens, 2) }},
		{"a job in doubt that is gone without its effect", modelNoEffect, func(h *modelHistory) { delete(h.effects.tokens, 11) }},
		{"an effect of a job that stays", modelUndead, func(h *modelHistory) { h.left[11] = []string{"id11"} }},
		{"an effect that was written twice", modelMiscount, func(h *modelHistory) { h.effects.count++ }},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := modelGood()
			c.spoil(&h)
			found := modelCheck(h)
			if !slices.ContainsFunc(found, func(v modelViolation) bool { return v.rule == c.rule }) {
				t.Errorf("not found: %s; but %v", c.rule, found)
			}
		})
	}
}

// A claim that was lost before anybody was called counts in the order of a key, too.
func TestTheModelKnowsOfClaimsThatNobodyWasToldOf(t *testing.T) {
	h := modelGood()
	h.drop(131)
	h.delivery(133).token, h.delivery(133).from, h.delivery(133).until = 300, 90, 95
	h.first = map[string]int64{"id4": 131}
	for _, v := range modelCheck(h) {
		t.Errorf("%v", v)
	}
}

// Who is robbed of a claim by a stranger cannot know at once, and nobody counts that attempt. It is as little allowed to be
// done twice.
func TestTheModelKnowsWhatAStrangerDid(t *testing.T) {
	h := modelGood()
	h.tampered[101] = true
	h.delivery(101).until, h.delivery(101).outcome = 35, modelRefused
	h.delivery(102).attempt = 1
	for _, v := range modelCheck(h) {
		t.Errorf("%v", v)
	}
	h.delivery(101).end, h.delivery(101).outcome = modelDone, modelAccepted
	if !slices.ContainsFunc(modelCheck(h), func(v modelViolation) bool { return v.rule == modelTwice }) {
		t.Error("robbed, it is acknowledged all the same, and nothing is found")
	}
}

// Who is frozen cannot be told, and does nothing. Awake again, it is told at once; and a handler that was called just before it froze
// has its first look at its context then.
func TestTheModelKnowsWhoIsFrozen(t *testing.T) {
	h := modelGood()
	first := h.delivery(101)
	first.until, first.end, first.outcome = 45, modelKept, modelUnknown
	h.sleeps = map[int][]modelSleep{first.worker: {{5, 8}, {15, 50}}}
	for _, v := range modelCheck(h) {
		t.Errorf("told when it woke: %v", v)
	}
	finds := func(what string, rule modelRule) {
		t.Helper()
		if found := modelCheck(h); !slices.ContainsFunc(found, func(v modelViolation) bool { return v.rule == rule }) {
			t.Errorf("%s, and that is not found, but %v", what, found)
		}
	}
	h.sleeps[first.worker][1].until = 30
	finds("it was awake", modelTwoOwn)
	first.from, first.until = 35, 35
	for _, v := range modelCheck(h) {
		t.Errorf("called when it woke, and never believed: %v", v)
	}
	first.until = 36
	finds("it was called for a job that another had", modelTokens)
}
