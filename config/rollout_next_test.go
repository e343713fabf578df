package config

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// scene is an outlook that is told what happens, at revisions and times that only rise.
type scene struct {
	*outlook
	t    testing.TB
	rev  int64
	time time.Time
}

// newScene is a rollout of "k" in steps, just begun, with its value in place.
func newScene(t testing.TB, steps ...Step) *scene {
	s := &scene{outlook: newOutlook("k", "R"), t: t, time: time.Unix(1e9, 0)}
	s.sawKey(7)
	s.sawTerm(1, s.time)
	s.rev = 10
	s.sawCandidate([]byte("new"), s.rev)
	s.write(&record{ID: "R", State: Running, Steps: steps, Base: 7, Sum: sumOf([]byte("new"))})
	return s
}

// write has the record written by somebody.
func (s *scene) write(p *record) {
	s.rev++
	s.sawPlan(p, s.rev, s.time)
}

// amend has the record changed by somebody.
func (s *scene) amend(change func(p *record)) {
	p := *s.plan
	change(&p)
	s.write(&p)
}

// says has an instance report, under the incarnation "1" unless it is named as "a/2".
func (s *scene) says(who string, state ReportState, rollout string, labels ...string) {
	s.rev++
	id, incarnation, found := strings.Cut(who, "/")
	if !found {
		incarnation = "1"
	}
	r := Report{Instance: id, Incarnation: incarnation, State: state, Rollout: rollout, Reason: "because", TTL: 2, seen: s.rev}
	if len(labels) > 0 {
		r.Labels = map[string]string{labels[0]: labels[1]}
	}
	s.sawReport(r, nil, s.time)
}

func (s *scene) after(d time.Duration) { s.time = s.time.Add(d) }

// does the decision that the driver comes to.
func (s *scene) does() decision {
	n := s.next(s.time)
	ids := instances(s.live())
	switch n.verb {
	case toBegin:
		s.write(s.plan.at(s.plan.Step, s.key, ids))
	case toAdvance:
		s.write(s.plan.at(s.plan.Step+1, s.key, ids))
	case toPromote:
		s.amend(func(p *record) { p.State = Promoted })
	case toAbort:
		s.amend(func(p *record) { p.State, p.Cause = Aborted, n.why })
	case toNote:
		s.amend(func(p *record) { p.Applied = s.incarnations() })
	case toWait, toEnd:
	}
	return n
}

// wants fails the test unless this is the decision.
func (s *scene) wants(verb verb, why string) decision {
	s.t.Helper()
	n := s.does()
	if n.verb != verb || !strings.Contains(n.why, why) {
		s.t.Fatalf("decided %d, %q; want %d, %q", n.verb, n.why, verb, why)
	}
	return n
}

const all = 100

func TestAStepIsSoakedFromWhenTheLastOfItHasApplied(t *testing.T) {
	s := newScene(t, Step{Percent: all, Soak: 10 * time.Second})
	s.wants(toWait, "no instance reports")
	s.says("a", Applied, "")
	s.says("b", Applied, "")
	s.wants(toBegin, "")
	s.wants(toWait, "instances are to apply: a, b")
	s.says("a", Applied, "R")
	s.after(time.Minute)
	s.wants(toNote, "are to apply: b")
	s.says("b", Applied, "R")
	n := s.wants(toWait, "soak")
	if !n.soak || n.over.Sub(s.time) != 10*time.Second {
		t.Errorf("soaks %v", n.over.Sub(s.time))
	}
	s.after(10*time.Second - 1)
	s.wants(toNote, "soak")
	s.after(1)
	s.wants(toPromote, "")
	s.wants(toEnd, "")
}

// The death of an instance shows when its lease has expired. A new leader of etcd renews the leases of the dead too.
func TestASoakIsNoShorterThanADeathTakesToShow(t *testing.T) {
	s := newScene(t, Step{Percent: all})
	s.says("a", Applied, "R")
	s.wants(toBegin, "")
	if n := s.wants(toWait, "soak"); n.over.Sub(s.time) != 3*time.Second {
		t.Errorf("soaks %v at a TTL of 2 s", n.over.Sub(s.time))
	}
	s.after(2 * time.Second)
	s.sawTerm(2, s.time)
	if n := s.next(s.time); n.over.Sub(s.time) != 3*time.Second {
		t.Errorf("soaks %v under a new leader", n.over.Sub(s.time))
	}
}

func TestWhoJoinsIsWaitedForAndSoaked(t *testing.T) {
	s := newScene(t, Step{Percent: all, Soak: 10 * time.Second})
	s.says("a", Applied, "R")
	s.wants(toBegin, "")
	s.after(9 * time.Second)
	s.says("b", Applied, "")
	s.wants(toNote, "are to apply: b")
	s.says("b", Applied, "R")
	s.after(9 * time.Second)
	s.wants(toNote, "soak")
	s.after(time.Second)
	s.wants(toPromote, "")
}

func TestWhatTakesARolloutBack(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(s *scene)
		cause   string // empty: nothing does
	}{
		"refused":                  {func(s *scene) { s.says("b", Refused, "R") }, `instance "b" refused it: because`},
		"failed":                   {func(s *scene) { s.says("a", Failed, "R") }, `instance "a" reports: because`},
		"failed, and well again":   {func(s *scene) { s.says("a", Failed, "R"); s.says("a", Applied, "R") }, `instance "a" reports: because`},
		"failed at another time":   {func(s *scene) { s.says("b", Failed, "") }, ""},
		"failed in another":        {func(s *scene) { s.says("b", Failed, "Q") }, ""},
		"died":                     {func(s *scene) { s.sawGone("a", nil) }, `instance "a" died after it had applied`},
		"died applying":            {func(s *scene) { s.sawGone("b", nil) }, `instance "b" died while it was to apply`},
		"left":                     {func(s *scene) { s.says("a", Left, "R"); s.sawGone("a", nil) }, ""},
		"left, and back":           {func(s *scene) { s.says("a", Left, "R"); s.sawGone("a", nil); s.says("a/2", Applied, "R") }, ""},
		"back before it was gone":  {func(s *scene) { s.says("a", Left, "R"); s.says("a/2", Applied, "") }, ""},
		"another process":          {func(s *scene) { s.says("a/2", Applied, "") }, `instance "a" ended after it had applied, and was started again`},
		"another that has applied": {func(s *scene) { s.says("a/2", Applied, "R") }, `instance "a" ended after it had applied, and was started again`},
		"another before applying":  {func(s *scene) { s.says("b/2", Applied, "R") }, ""},
		"the key was changed":      {func(s *scene) { s.sawKey(99) }, causeKeyChanged},
		"the key was deleted":      {func(s *scene) { s.sawKey(0) }, causeKeyChanged},
		"the value was deleted":    {func(s *scene) { s.sawCandidate(nil, 0) }, "the rollout's value was deleted"},
		"the value was changed":    {func(s *scene) { s.sawCandidate([]byte("other"), 99) }, "the rollout's value was changed"},
		"who is not in it dies":    {func(s *scene) { s.says("out", Applied, "", "zone", "c"); s.sawGone("out", nil) }, ""},
	} {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, paused: %v", name, paused), func(t *testing.T) {
				s := newScene(t, Step{Labels: map[string]string{"zone": "b"}, Soak: time.Minute})
				s.says("a", Applied, "", "zone", "b")
				s.says("b", Applied, "", "zone", "b")
				s.says("a", Applied, "R", "zone", "b")
				if paused {
					s.amend(func(p *record) { p.State = Paused })
				}
				c.happens(s)
				if n := s.next(s.time); (n.verb == toAbort) != (c.cause != "") || c.cause != "" && n.why != c.cause {
					t.Errorf("decided %d, %q; want %q", n.verb, n.why, c.cause)
				}
			})
		}
	}
}

func TestWithoutNewsOfEtcdNothingGoesOn(t *testing.T) {
	s := newScene(t, Step{Percent: all})
	s.says("a", Applied, "R")
	s.wants(toBegin, "")
	s.after(time.Hour)
	s.cut = errCut
	s.wants(toWait, "cannot be followed")
	s.cut = nil
	s.wants(toPromote, "")
}

func TestWhilePausedNothingGoesOnAndTheSoakBeginsAnew(t *testing.T) {
	s := newScene(t, Step{Percent: all, Soak: 10 * time.Second})
	s.says("a", Applied, "R")
	s.wants(toBegin, "")
	s.amend(func(p *record) { p.State, p.Applied = Paused, s.incarnations() })
	s.after(time.Hour)
	s.wants(toWait, "paused")
	s.amend(func(p *record) { p.State = Running })
	if n := s.wants(toWait, "soak"); n.over.Sub(s.time) != 10*time.Second {
		t.Errorf("soaks %v", n.over.Sub(s.time))
	}
}

func TestAStepByLabelsWaitsForWhoHasThem(t *testing.T) {
	s := newScene(t, Step{Percent: 1}, Step{Labels: map[string]string{"zone": "b"}, MinReports: 2})
	s.says("a", Applied, "R", "zone", "a")
	s.wants(toBegin, "")
	s.after(time.Minute)
	s.wants(toAdvance, "")
	s.wants(toWait, "no instance has the labels")
	s.says("b", Applied, "R", "zone", "b")
	s.wants(toWait, "1 of 2 instances have applied")
	s.says("c", Applied, "", "zone", "b")
	s.wants(toWait, "are to apply: c")
	s.says("c", Applied, "R", "zone", "b")
	s.amend(func(p *record) { p.Applied = s.incarnations() })
	s.wants(toWait, "soak")
}

// Whoever was in a step by percent alone may leave; then others take the place.
func TestAStepByPercentIsNeverEmptyWhileAnybodyReports(t *testing.T) {
	s := newScene(t, Step{Percent: 10})
	for n := range 10 {
		s.says(fmt.Sprintf("i-%d", n), Applied, "")
	}
	s.wants(toBegin, "")
	for range 9 {
		members := s.members()
		if len(members) != 1 {
			t.Fatalf("in the step are %v", instances(members))
		}
		before := s.plan.Threshold
		s.says(members[0].Instance, Left, "")
		s.sawGone(members[0].Instance, nil)
		s.wants(toBegin, "")
		if s.plan.Threshold <= before {
			t.Errorf("the threshold went from %d to %d", before, s.plan.Threshold)
		}
	}
}

// A driver begins with what the record says, so that what happened between two drivers is seen.
func TestWhoDrivesNextKnowsWhoHadApplied(t *testing.T) {
	for name, c := range map[string]struct {
		finds func(s *scene)
		cause string
	}{
		"all well":         {func(s *scene) { s.says("a", Applied, "R") }, ""},
		"gone":             {func(*scene) {}, `instance "a" is gone after it had applied`},
		"another":          {func(s *scene) { s.says("a/2", Applied, "R") }, `instance "a" ended after it had applied, and was started again`},
		"seen leaving":     {func(s *scene) { s.says("a", Left, "R"); s.sawGone("a", nil) }, ""},
		"gone, which left": {func(s *scene) { s.sawGone("a", &Report{Instance: "a", State: Left}) }, ""},
		"gone, which died": {func(s *scene) { s.sawGone("a", &Report{Instance: "a", State: Applied}) }, `instance "a" died after it had applied`},
	} {
		t.Run(name, func(t *testing.T) {
			first := newScene(t, Step{Percent: all, Soak: time.Minute})
			p := *first.plan
			p.Applied = map[string]string{"a": "1"}
			s := &scene{outlook: newOutlook("k", "R"), t: t, rev: 100, time: time.Unix(1e9, 0)}
			s.sawCandidate([]byte("new"), 10)
			s.write(&p)
			c.finds(s)
			s.settle()
			if n := s.next(s.time); (n.verb == toAbort) != (c.cause != "") || n.verb == toAbort && n.why != c.cause {
				t.Errorf("decided %d, %q; want %q", n.verb, n.why, c.cause)
			}
		})
	}
}

func TestAThresholdLetsInSoManyAndAtLeastOne(t *testing.T) {
	for range 200 {
		ids := make([]string, 1+rand.IntN(40))
		for i := range ids {
			ids[i] = fmt.Sprintf("i-%d", rand.Int())
		}
		percent := 1 + float64(rand.IntN(100))
		want := max(1, int(math.Ceil(percent*float64(len(ids))/100-1e-9)))
		limit, in := threshold("k", percent, ids), 0
		for _, id := range ids {
			if position("k", id) <= limit {
				in++
			}
		}
		if in != want {
			t.Fatalf("%v percent of %d are %d, want %d", percent, len(ids), in, want)
		}
	}
	if threshold("k", 50, nil) != 0 {
		t.Error("of nobody, somebody is in")
	}
}

// Random histories of a rollout: nothing goes on while anybody of the step has not applied or the soak is not over; a complaint always
// takes it back; without one it ends promoted once all have applied; and who is in stays in.
func TestRandomHistoriesOfARollout(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newScene(t, Step{Percent: float64(1 + rng.IntN(50))}, Step{Labels: map[string]string{"zone": "b"}}, Step{Percent: 60, Soak: 5 * time.Second})
		incarnation := map[string]int{}
		bad := "" // what must take it back
		in := map[string]bool{}
		name := func(id string) string { return fmt.Sprintf("%s/%d", id, incarnation[id]) }
		zone := func(id string) string { return string(id[len(id)-1]%2 + 'a') }
		say := func(id string, state ReportState, rollout string) { s.says(name(id), state, rollout, "zone", zone(id)) }
		quiet := false // from some time on only good things happen
		for turn := 0; !s.over(); turn++ {
			quiet = quiet || turn > 60
			if turn > 1000 {
				t.Fatalf("seed %d: it does not end: %+v; %+v", seed, s.plan, s.next(s.time))
			}
			id := fmt.Sprintf("i-%d", rng.IntN(8))
			known, there := s.reports[id]
			included := there && known.State != Left && s.includes(known)
			_, applied := s.applied[id]
			switch dice := rng.IntN(100); {
			case quiet && !there, !quiet && dice < 20 && !there:
				incarnation[id]++
				say(id, Applied, "")
			case quiet && included && !applied, !quiet && dice < 60 && included && !applied:
				say(id, Applied, "R")
			case quiet:
			case dice < 63 && there:
				say(id, Left, "")
				s.rev++
				s.sawGone(id, nil)
			case dice < 64 && there:
				s.rev++
				s.sawGone(id, nil)
				if included {
					bad = "died"
				}
			case dice < 65 && there:
				incarnation[id]++
				say(id, Applied, "")
				if applied {
					bad = "restarted"
				}
			case dice < 66 && included:
				say(id, []ReportState{Refused, Failed}[rng.IntN(2)], "R")
				bad = "complained"
			}
			for _, m := range s.members() {
				in[m.Instance] = true
			}
			for id := range in {
				if r, there := s.reports[id]; there && !s.includes(r) {
					t.Fatalf("seed %d: %s is out again", seed, id)
				}
			}
			s.after(time.Duration(rng.IntN(2000)) * time.Millisecond)
			members := s.members()
			n := s.does()
			switch n.verb {
			case toAbort:
				if bad == "" {
					t.Fatalf("seed %d: taken back without a reason: %s", seed, n.why)
				}
			case toAdvance, toPromote:
				if awaited := s.awaited(members); bad != "" || len(awaited) > 0 || len(members) == 0 {
					t.Fatalf("seed %d: goes on although %q, awaited %v", seed, bad, awaited)
				}
				if !slices.ContainsFunc(members, func(r Report) bool { return s.applied[r.Instance].since.Add(3 * time.Second).After(s.time) }) {
					break
				}
				t.Fatalf("seed %d: goes on before somebody has soaked", seed)
			case toWait, toNote, toBegin, toEnd:
				if bad != "" {
					t.Fatalf("seed %d: decided %d although somebody %s", seed, n.verb, bad)
				}
			}
		}
		if (s.plan.State == Aborted) != (bad != "") {
			t.Fatalf("seed %d: ended %s; %q", seed, s.plan.State, bad)
		}
	}
}

func TestAPlanThatCannotBeFollowedIsRefused(t *testing.T) {
	one := []Step{{Percent: 100}}
	for says, p := range map[string]Plan{
		"it has no steps":                  {},
		"it has 101 steps":                 {Steps: slices.Repeat(one, 101)},
		"neither a percentage nor labels":  {Steps: []Step{{Soak: 1}}},
		"a percentage and labels":          {Steps: []Step{{Percent: 1, Labels: map[string]string{"a": "b"}}}},
		"step 1: 101 percent":              {Steps: []Step{{Percent: 101}}},
		"step 1: -1 percent":               {Steps: []Step{{Percent: -1}}},
		"step 1: NaN percent":              {Steps: []Step{{Percent: math.NaN()}}},
		"step 2: 5 percent after 10":       {Steps: []Step{{Percent: 10}, {Percent: 5}}},
		"step 1: a negative number":        {Steps: []Step{{Percent: 10, Soak: -1}}},
		"a negative time":                  {Steps: one, CheckEvery: -1},
		"author refused":                   {Steps: one, Author: "a\x00b"},
		"Expect must be a revision":        {Steps: one, Expect: -2},
		"step 2: -3 percent; above 0 and ": {Steps: []Step{{Percent: 10}, {Percent: -3}}},
	} {
		if err := p.check("k"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	good := Plan{Steps: []Step{{Percent: 0.5}, {Labels: map[string]string{"a": "b"}}, {Percent: 100}}}
	if err := good.check("k"); err != nil {
		t.Error(err)
	}
}

func TestARecordIsReadOrRefused(t *testing.T) {
	for _, text := range []string{
		"", "{", "[]", `{"id":"R","steps":[{"percent":1}],"state":"later"}`, `{"id":"R"}`, `{"id":"R","state":"running","steps":[{"percent":1}],"step":1}`,
		`{"id":"R","state":"running","steps":[{"percent":1}],"step":-1}`, `{"state":"running","steps":[{"percent":1}]}`,
		`{"id":"R","state":"running","steps":[{"percent":1}],"threshold":-1}`,
	} {
		if r, err := decodeRecord([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, r)
		}
	}
	r, err := decodeRecord([]byte(`{"id":"R","state":"running","steps":[{"percent":1}],"threshold":18446744073709551615,"new":1}`))
	if err != nil || !r.includes("k", Identity{ID: "a"}) {
		t.Errorf("%+v, %v", r, err)
	}
}

// Those who are in by percent are the same for every reader, also one that is written in another language.
func TestThePositionOfAnInstanceIsAContract(t *testing.T) {
	if got := position("/config/mail", "mail-7"); got != 6509842064277675310 {
		t.Errorf("it is %d", got)
	}
}
