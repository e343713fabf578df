package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestARolloutIsShownUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", `{"rate": 10}`)
	for i := range 4 {
		s.instance("./limits", fmt.Sprintf("i-%d", i), map[string]string{"zone": []string{"eu", "us"}[i%2]})
	}
	out := s.ok("rollout", "./limits", `{"rate": 20}`, "--label", "zone=eu:100ms:2", "--step", "100%", "--yes", "--reason", "more", "--verbose")
	s.holds(out, "rollout ", " of ./limits\n", "step 1 of 2: zone=eu, soak 100ms, at least 2 instances\n", "i-0 has applied it\n", "i-2 has applied it\n",
		"2 of 4 instances run it\n", "step 2 of 2: 100 %\n", "4 of 4 instances run it\n", "promoted\n")
	s.prints([]string{"history", "./limits", "-n", "1"}, " rolled out ", "more (rollout ")
	s.prints([]string{"status", "./limits"}, "./limits  version 2 at revision ", "INSTANCE  STATE    RUNS ", "i-0       applied  version 2", "i-3       applied  version 2")
	s.prints([]string{"rollout", "./limits", `{"rate": 20}`, "--step", "100%"}, "./limits: unchanged, version 2")
	s.fails(1, "no such rollout under way: the last one was promoted", "rollout", "status", "./limits")
	s.fails(1, "plan refused: step 2: 10 percent after 50", "rollout", "./limits", "{}", "--step", "50%", "--step", "10%", "--yes")
}

func TestARolloutThatIsTakenBackSaysWhy(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", `{"rate": 10}`)
	s.instance("./limits", "i-0", nil)
	s.instance("./limits", "i-1", nil)
	for value, test := range map[string]struct {
		args []string
		says []string
		why  string
	}{
		`{"rate": 101}`: {nil, []string{"has refused it\n", "taken back: instance \"i-"}, "a rate above 100"},
		`{"rate": 66}`:  {nil, []string{"has failed with it\n", "taken back: instance \"i-"}, "too many errors [31m"},
		`{"rate": 30}`: {
			[]string{"--check", "echo fine; echo 'error rate is 12 %'; exit 3"},
			[]string{"taken back: the check failed: exit status 3: error rate is 12 %\n"},
			"error rate is 12 %",
		},
	} {
		r := s.run(append([]string{"rollout", "./limits", value, "--step", "50%:1s", "--yes"}, test.args...)...)
		if r.code != 4 || strings.Count(r.errs, "\n") != 1 {
			t.Errorf("code %d, stderr %q", r.code, r.errs)
		}
		s.holds(r.errs, "etcdkit config rollout: ./limits: rollout taken back: ", test.why)
		s.holds(r.out, test.says...)
	}
	if got := s.ok("get", "./limits"); got != `{"rate": 10}` {
		t.Errorf("the key holds %q", got)
	}
	if all := s.objects("history", "./limits", "-n", "3"); all[0]["kind"] != "taken back" || all[2]["kind"] != "taken back" {
		t.Errorf("%v", all)
	}
}

func TestARolloutIsLeftAndDrivenOnAndSteered(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", `{"rate": 10}`)
	s.instance("./limits", "i-0", nil)
	s.instance("./limits", "i-1", nil)
	key := s.root + "/limits"
	r := launch(t, "config", "--endpoints", s.endpoint, "rollout", key, `{"rate": 20}`, "--step", "50%:1h", "--step", "100%:1h", "--yes", "--author", "ann")
	for !strings.HasSuffix(r.expect(""), "1 of 2 instances run it") {
	}
	r.signal(syscall.SIGINT)
	_, code := r.wait()
	if want := "etcdkit config rollout: interrupted; the rollout stays at step 1 of 2 until somebody drives it: etcdkit config rollout resume " + key + "\n"; code != 130 || r.errs.String() != want {
		t.Errorf("code %d, stderr %q", code, &r.errs)
	}
	s.fails(1, "rollout under way: ", "put", "./limits", `{"rate": 5}`, "--yes")
	s.fails(1, "--ignore-rollout takes it back", "rollback", "./limits", "1", "--yes")
	s.prints([]string{"rollout", "status", "./limits"}, "./limits  rollout ", "state     running\n", "step      1 of 2: 50 %, soak 1h0m0s\n", "by        ann\n", "applied   1 of 2 that report\n", "waiting   soak, ")
	s.prints([]string{"status", "./limits"}, "rollout ", " is under way: see rollout status\n", "the rollout's value")
	s.prints([]string{"rollout", "pause", "./limits", "--reason", "lunch"}, "./limits: rollout ", " paused\n")
	if o := s.object("rollout", "status", "./limits"); o["state"] != "paused" || !strings.HasPrefix(o["cause"].(string), "lunch, by ") || o["step"] != 1.0 ||
		o["steps"] != 2.0 || len(o["applied"].([]any)) != 1 || o["percent"] != 50.0 || o["soak"] != 3600.0 || o["reporting"] != 2.0 {
		t.Errorf("%v", o)
	}
	s.prints([]string{"rollout", "continue", "./limits"}, " continued\n")
	s.prints([]string{"rollout", "promote", "./limits"}, " promoted; it goes on with step 2 of 2\n")
	r = launch(t, "config", "--endpoints", s.endpoint, "rollout", "resume", key, "-o", "json")
	for !strings.Contains(r.expect(""), `"soaking":true`) {
	}
	if o := s.object("rollout", "promote", "./limits"); o["done"] != "promoted" || o["key"] != key {
		t.Errorf("%v", o)
	}
	out, code := r.wait()
	all := objectsOf(t, out)
	if last := all[len(all)-1]; code != 0 || r.errs.Len() > 0 || last["state"] != "promoted" {
		t.Errorf("code %d, stderr %q, %v", code, &r.errs, all)
	}
	s.prints([]string{"rollout", "./limits", `{"rate": 30}`, "--step", "100%:1h", "--yes", "--detach"}, " begun; nobody drives it yet")
	follower := launch(t, "config", "--endpoints", s.endpoint, "rollout", "status", key, "--follow")
	follower.expect(time.Now().Format("15:"))
	s.prints([]string{"rollout", "abort", "./limits", "--reason", "no good"}, " aborted\n")
	if out, code := follower.wait(); code != 4 || !strings.Contains(out, "taken back: no good") {
		t.Errorf("code %d: %s", code, out)
	}
	s.prints([]string{"history", "./limits", "-n", "1"}, " taken back ", "no good, by ")
	s.fails(1, "the last one was aborted", "rollout", "resume", "./limits")
	if got := s.ok("get", "./limits"); got != `{"rate": 20}` {
		t.Errorf("the key holds %q", got)
	}
}

func TestStatusTellsWhoRunsWhat(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.prints([]string{"status", "./limits"}, "./limits  does not exist\n", "No instance reports")
	s.ok("put", "./limits", `{"rate": 10}`)
	s.instance("./limits", "i-0", map[string]string{"zone": "eu"})
	s.instance("./limits", "i-1", nil)
	s.ok("put", "./limits", `{"rate": 101}`, "--yes")
	s.eventually(func(o map[string]any) bool {
		all := o["instances"].([]any)
		return len(all) == 2 && all[0].(map[string]any)["state"] == "refused" && all[1].(map[string]any)["state"] == "refused"
	}, "status", "./limits")
	s.prints([]string{"status", "./limits"}, "./limits  version 2", "INSTANCE  STATE    RUNS ", "SINCE", "REASON", "i-0       refused  version 1", "a rate above 100")
	o := s.object("status", "./limits")["instances"].([]any)[0].(map[string]any)
	if o["instance"] != "i-0" || o["version"] != 2.0 || o["labels"].(map[string]any)["zone"] != "eu" || o["running"].(float64) >= o["revision"].(float64) || o["ttl"] != 2.0 {
		t.Errorf("%v", o)
	}
	s.ok("put", "./limits", `{"rate": 66}`, "--yes")
	s.eventually(func(o map[string]any) bool {
		all := o["instances"].([]any)
		return all[0].(map[string]any)["state"] == "failed" && all[1].(map[string]any)["state"] == "failed"
	}, "status", "./limits")
	s.prints([]string{"status", "./limits"}, "failed ", "too many errors [31m")
}
