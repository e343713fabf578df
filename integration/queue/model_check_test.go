package queue_test

import (
	"cmp"
	"fmt"
	"slices"
)

// modelRule is one thing that is promised of every history.
type modelRule string

const (
	modelLost      modelRule = "a job that was pushed is lost"
	modelInvented  modelRule = "a job was delivered that nobody pushed"
	modelDoubled   modelRule = "a job goes by two IDs"
	modelTwice     modelRule = "a job was acknowledged twice"
	modelUndead    modelRule = "a job that was acknowledged is still there"
	modelAfter     modelRule = "a job was delivered after it was acknowledged"
	modelTokens    modelRule = "tokens do not rise"
	modelAttempts  modelRule = "attempts do not rise"
	modelTwoOwn    modelRule = "two own a job"
	modelTwoOfKey  modelRule = "two jobs of a key are in flight"
	modelOrder     modelRule = "jobs of a key are out of order"
	modelEffectOf  modelRule = "an effect of nobody"
	modelEffects2  modelRule = "a job has two effects"
	modelNoEffect  modelRule = "a job is done without its effect"
	modelLate      modelRule = "an effect of an acknowledgement that was refused"
	modelMiscount  modelRule = "an effect was counted twice, or not at all"
	modelDeadTwice modelRule = "a dead letter was acknowledged, too"
)

// modelViolation is a rule that does not hold, and where.
type modelViolation struct {
	rule modelRule
	what string
}

func (v modelViolation) String() string { return fmt.Sprintf("%s: %s", v.rule, v.what) }

// modelCheck holds a history against what the queue promises: an at-least-once multiset of jobs, owned by one at a time.
func modelCheck(h modelHistory) []modelViolation {
	c := modelChecker{modelHistory: h, jobs: map[int]*modelJob{}}
	c.collect()
	for _, j := range c.inOrder {
		c.checkFate(j)
		c.checkDeliveries(j)
		c.checkEffects(j)
	}
	c.checkKeys()
	return c.found
}

// modelJob is all that is known of one job.
type modelJob struct {
	push       *modelPush
	deliveries []*modelDelivery // by token
}

type modelChecker struct {
	modelHistory
	jobs    map[int]*modelJob
	inOrder []*modelJob // of their pushes
	found   []modelViolation
}

func (c *modelChecker) violated(rule modelRule, format string, args ...any) {
	c.found = append(c.found, modelViolation{rule, fmt.Sprintf(format, args...)})
}

// collect gathers deliveries by job.
func (c *modelChecker) collect() {
	for n := range c.pushes {
		j := &modelJob{push: &c.pushes[n]}
		c.jobs[j.push.tag] = j
		c.inOrder = append(c.inOrder, j)
	}
	for n := range c.deliveries {
		d := &c.deliveries[n]
		j, pushed := c.jobs[d.tag]
		if !pushed || j.push.outcome == modelRefused {
			c.violated(modelInvented, "%v", d)
			continue
		}
		j.deliveries = append(j.deliveries, d)
	}
	for _, j := range c.inOrder {
		slices.SortStableFunc(j.deliveries, func(a, b *modelDelivery) int { return cmp.Compare(a.token, b.token) })
	}
}

// checkFate asks what became of a job.
func (c *modelChecker) checkFate(j *modelJob) {
	p := j.push
	ids := map[string]bool{}
	if p.id != "" {
		ids[p.id] = true
	}
	for _, d := range j.deliveries {
		ids[d.id] = true
	}
	for _, id := range slices.Concat(c.left[p.tag], c.dead[p.tag]) {
		ids[id] = true
	}
	if there := len(c.left[p.tag]) + len(c.dead[p.tag]); len(ids) > 1 || there > 1 {
		c.violated(modelDoubled, "%+v: %v, left as %v, dead as %v", *p, ids, c.left[p.tag], c.dead[p.tag])
	}
	left, dead := len(c.left[p.tag]) > 0, len(c.dead[p.tag]) > 0
	var acks, maybe int
	for _, d := range j.deliveries {
		if d.end != modelDone && d.end != modelEffect {
			continue
		}
		switch d.outcome {
		case modelAccepted:
			acks++
		case modelUnknown:
			maybe++
		case modelRefused:
		}
	}
	switch {
	case acks > 1:
		c.violated(modelTwice, "%+v: %v", *p, j.deliveries)
	case acks == 1 && left:
		c.violated(modelUndead, "%+v: %v", *p, j.deliveries)
	case acks == 1 && dead:
		c.violated(modelDeadTwice, "%+v: %v", *p, j.deliveries)
	case acks+maybe == 0 && !left && !dead && (p.outcome == modelAccepted || len(j.deliveries) > 0):
		c.violated(modelLost, "%+v: %v", *p, j.deliveries)
	}
}

// checkDeliveries asks whether one delivery follows the other.
func (c *modelChecker) checkDeliveries(j *modelJob) {
	for n, d := range j.deliveries {
		if n == 0 {
			continue
		}
		before := j.deliveries[n-1]
		if d.token == before.token {
			c.violated(modelTokens, "%v, and %v", before, d)
			continue
		}
		if acked := before.outcome == modelAccepted && (before.end == modelDone || before.end == modelEffect); acked {
			c.violated(modelAfter, "%v, and then %v", before, d)
		}
		// Who was robbed of its claim had no attempt that others know of, and does not know of the others yet.
		if d.attempt < before.attempt || d.attempt == before.attempt && !c.tampered[before.token] {
			c.violated(modelAttempts, "%v, and then %v", before, d)
		}
		if c.tampered[before.token] || before.until == before.from {
			continue
		}
		if d.from < before.from {
			c.violated(modelTokens, "%v, and before that %v", before, d)
		} else if c.believes(before, d.from) {
			c.violated(modelTwoOwn, "%v, and meanwhile %v", before, d)
		}
	}
}

// believes reports whether a handler takes its job for its own at a time. One that is frozen does not take anything for anything.
func (c *modelChecker) believes(d *modelDelivery, at modelInstant) bool {
	asleep := slices.ContainsFunc(c.sleeps[d.worker], func(s modelSleep) bool { return s.from <= at && at < s.until })
	return at < d.until && !asleep
}

// checkEffects asks whether the effect of a job was there once.
func (c *modelChecker) checkEffects(j *modelJob) {
	p, tokens := j.push, c.effects.tokens[j.push.tag]
	there := map[int64]bool{}
	for _, token := range tokens {
		there[token] = true
	}
	for _, d := range j.deliveries {
		if d.end != modelEffect {
			continue
		}
		switch {
		case d.outcome == modelRefused && there[d.token]:
			c.violated(modelLate, "%v", d)
		case d.outcome == modelAccepted && !there[d.token]:
			c.violated(modelNoEffect, "%v", d)
		}
		delete(there, d.token)
	}
	for token := range there {
		c.violated(modelEffectOf, "job %d, token %d, delivered as %v", p.tag, token, j.deliveries)
	}
	gone := len(c.left[p.tag]) == 0 && len(c.dead[p.tag]) == 0
	switch pushed := p.outcome == modelAccepted || len(j.deliveries) > 0; {
	case len(tokens) > 1:
		c.violated(modelEffects2, "job %d, under tokens %v: %v", p.tag, tokens, j.deliveries)
	case len(tokens) == 1 && !gone:
		c.violated(modelUndead, "job %d, with the effect of token %d: %v", p.tag, tokens[0], j.deliveries)
	case p.effect && pushed && gone && len(tokens) == 0:
		c.violated(modelNoEffect, "job %d: %v", p.tag, j.deliveries)
	}
}

// firstClaim is when a job was first claimed: by its first delivery, if nothing else is known.
func (c *modelChecker) firstClaim(j *modelJob) int64 {
	if rev, ok := c.first[j.deliveries[0].id]; ok {
		return rev
	}
	return j.deliveries[0].token
}

// checkKeys asks whether jobs of a key were in flight one at a time, and came in the order in which they were pushed. The effects
// are counted here, too.
func (c *modelChecker) checkKeys() {
	byKey := map[string][]*modelDelivery{}
	type line struct {
		key            string
		line, priority int
	}
	newest := map[line]*modelJob{}
	for _, j := range c.inOrder {
		if j.push.key == "" || len(j.deliveries) == 0 {
			continue
		}
		byKey[j.push.key] = append(byKey[j.push.key], j.deliveries...)
		if j.push.line == 0 || j.push.delayed || j.push.outcome != modelAccepted {
			continue
		}
		l := line{j.push.key, j.push.line, j.push.priority}
		if before := newest[l]; before != nil && c.firstClaim(before) > c.firstClaim(j) {
			c.violated(modelOrder, "key %s: %v was claimed after %v, which was pushed later", j.push.key, before.deliveries[0], j.deliveries[0])
		}
		newest[l] = j
	}
	for key, all := range byKey {
		slices.SortFunc(all, func(a, b *modelDelivery) int { return cmp.Compare(a.token, b.token) })
		for n, d := range all {
			if n > 0 && d.tag != all[n-1].tag && !c.tampered[all[n-1].token] && c.believes(all[n-1], d.from) {
				c.violated(modelTwoOfKey, "key %s: %v, and meanwhile %v", key, all[n-1], d)
			}
		}
	}
	total := 0
	for tag, tokens := range c.effects.tokens {
		total += len(tokens)
		if c.jobs[tag] == nil {
			c.violated(modelEffectOf, "job %d, which nobody pushed, under tokens %v", tag, tokens)
		}
	}
	if total != c.effects.count {
		c.violated(modelMiscount, "%d effects, and their count says %d", total, c.effects.count)
	}
}
