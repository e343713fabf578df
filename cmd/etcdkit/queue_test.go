package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdkit/etcdkit/queue"
)

// newQueueShell is a shell of queue commands on the shared etcd.
func newQueueShell(t *testing.T) *shell { return queueShellOn(t, sharedEtcd(t)) }

func queueShellOn(t *testing.T, endpoint string) *shell {
	s := shellOn(t, endpoint)
	s.kind = "queue"
	return s
}

// letter puts a dead letter.
func (s *shell) letter(name, id, header, item string) {
	s.t.Helper()
	s.put(queue.Root+s.rootedText(name)+"//dead/"+id, header+"\n"+item)
}

func TestJobsArePushedAndShownInTheOrderOfTheLine(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	ids := strings.Fields(s.ok("push", "./mail", `{"to":"ada"}`, "two", "--key", "k"))
	if len(ids) != 2 || ids[0] >= ids[1] {
		t.Fatalf("%q", ids)
	}
	s.prints([]string{"push", "./mail", "named", "--id", "welcome/bob", "--priority", "5"}, "welcome/bob\n")
	s.prints([]string{"push", "./mail", "named", "--id", "welcome/bob"}, "welcome/bob\n")
	if o := s.object("push", "./mail", "later", "--delay", "2h30m"); o["id"] == "" || len(o) != 1 {
		t.Errorf("%v", o)
	}
	s.prints([]string{"peek", "./mail"}, "ID ", "PRIORITY  PUSHED", "STATE ", "ATTEMPTS  KEY", "ITEM\n",
		"welcome/bob ", "5  ", "waiting ", "named\n", ids[0], "waiting ", "  k ", `{"to":"ada"}`, ids[1], "two\n", "delayed by 2h", "later\n")
	all := s.objects("peek", "./mail", "-n", "2")
	if len(all) != 2 || all[0]["id"] != "welcome/bob" || all[0]["state"] != "waiting" || all[0]["priority"] != 5.0 || all[0]["attempts"] != 0.0 ||
		all[0]["item"] != "named" || all[1]["key"] != "k" || all[1]["item"] != `{"to":"ada"}` {
		t.Errorf("%v", all)
	}
	if o := s.objects("peek", "./mail", "-n", "0")[3]; o["state"] != "delayed" || o["due"] == nil {
		t.Errorf("%v", o)
	}
	s.prints([]string{"stats", "./mail"}, "QUEUE ", "WAITING  DELAYED  IN FLIGHT  DEAD  WORKERS  OLDEST  PAUSED\n", "./mail ", " 3 ", " 1 ", " 0 ", " 0 ", " 0 ", "s\n")
	if o := s.object("stats", "./mail"); o["queue"] != s.root+"/mail" || o["waiting"] != 3.0 || o["delayed"] != 1.0 || o["paused"] != false || o["oldestSeconds"].(float64) <= 0 {
		t.Errorf("%v", o)
	}
	s.ok("push", "./dash", "--", "-item")
	s.prints([]string{"peek", "./dash"}, " -item\n")
	if r := s.run("peek", "./none"); r.code != 0 || r.out != "" || r.errs != "no jobs\n" {
		t.Errorf("%+v", r)
	}
}

func TestStandardInputIsAJobALine(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	var lines strings.Builder
	for n := range 2500 {
		fmt.Fprintf(&lines, "%d\n\n", n)
	}
	s.in = strings.NewReader(lines.String() + "last")
	if ids := strings.Fields(s.ok("push", "./mail", "-")); len(ids) != 2501 || !slices.IsSorted(ids) {
		t.Errorf("%d IDs", len(ids))
	}
	all := s.objects("peek", "./mail", "-n", "0")
	for n, o := range all[:len(all)-1] {
		if o["item"] != fmt.Sprint(n) {
			t.Fatalf("%d: %v", n, o)
		}
	}
	s.in = strings.NewReader("one\n" + strings.Repeat("x", queue.MaxItem+10))
	if r := s.run("push", "./mail", "-"); r.code != 1 || strings.Count(r.out, "\n") != 1 ||
		!strings.Contains(r.errs, "push: a line of standard input: item too large: more than 1556480 bytes; 1 job is in the queue\n") {
		t.Errorf("%+v", r)
	}
}

// What others have written does nothing to a terminal, and is not longer than it has to be.
func TestItemsAreShownEscapedAndCutOff(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	s.ok("push", "./mail", "a\nb\x1b[31m\u202e\\ \xff", strings.Repeat("x", 1000))
	s.put(queue.Root+s.root+"/mail//line/jobs/100/junk\x1b", "whatever")
	out := s.prints([]string{"peek", "./mail"}, `a\nb\x1b[31m\u202e\ \xff`+"\n", strings.Repeat("x", 199)+"…\n", "junk", "unreadable", "whatever\n")
	if strings.Contains(out, "\u202e") {
		t.Errorf("%q", out)
	}
	all := s.objects("peek", "./mail")
	if all[0]["itemBase64"] != "YQpiG1szMW3igK5cIP8=" || len(all[1]["item"].(string)) != 1000 || all[2]["state"] != "unreadable" ||
		!strings.Contains(all[2]["problem"].(string), "not a place in line") {
		t.Errorf("%v", all)
	}
}

func TestDeadLettersAreRedrivenAndDiscarded(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	for _, id := range []string{"a", "b/1", "c", "d"} {
		s.letter("./mail", id, `{"id":"`+id+`","n":10,"err":"no\nroute","key":"k","place":"095/0000000000001-aaaaaaaa","died":"2026-01-02T03:04:05Z"}`, "item "+id)
	}
	s.prints([]string{"dead", "./mail", "-n", "2"}, "ID ", "PRIORITY  DIED ", "ATTEMPTS  KEY  ERROR ", "ITEM\n", "a ", "5 ", "10  k ", `no\nroute  item a`, "b/1 ")
	if all := s.objects("dead", "./mail"); len(all) != 4 || all[1]["id"] != "b/1" || all[1]["died"] != "2026-01-02T03:04:05Z" || all[1]["error"] != "no\nroute" || all[1]["state"] != "dead" {
		t.Errorf("%v", all)
	}
	s.prints([]string{"redrive", "./mail", "a"}, "./mail: 1 redriven\n")
	r := s.fails(1, `./mail: dead letter "none": unknown ID; 1 was redriven`, "redrive", "./mail", "none", "b/1")
	if strings.Count(r.errs, "\n") != 1 {
		t.Errorf("%q", r.errs)
	}
	s.letter("./mail", "a", `{"id":"a"}`, "")
	s.fails(1, `./mail: dead letter "a": a job with that ID is in the queue`, "redrive", "./mail", "a")
	s.fails(1, "there is no terminal to ask on, and nothing was changed: --yes", "discard", "./mail", "a")
	s.prints([]string{"discard", "./mail", "a", "--yes"}, "./mail: 1 discarded\n")
	if o := s.object("redrive", "./mail", "--all"); o["done"] != "redriven" || o["count"] != 2.0 {
		t.Errorf("%v", o)
	}
	if o := s.object("discard", "./mail", "--all", "-y"); o["done"] != "discarded" || o["count"] != 0.0 {
		t.Errorf("%v", o)
	}
	if r := s.run("dead", "./mail"); r.code != 0 || r.out != "" || r.errs != "no dead letters\n" {
		t.Errorf("%+v", r)
	}
	if all := s.objects("peek", "./mail"); len(all) != 4 || all[0]["id"] != "a" || all[0]["priority"] != 5.0 {
		t.Errorf("%v", all)
	}
}

func TestAQueueIsPausedPurgedAndListed(t *testing.T) {
	t.Parallel()
	s := queueShellOn(t, ownEtcd(t))
	if r := s.run("ls"); r.code != 0 || r.out != "" || r.errs != "no queues\n" {
		t.Errorf("%+v", r)
	}
	s.ok("push", "mail", "1", "2")
	s.ok("push", "audit/log", "1")
	s.prints([]string{"pause", "mail", "--reason", "the relay\nis down"}, "mail: paused\n")
	s.ok("pause", "mail", "--reason", "another")
	s.prints([]string{"ls"}, "QUEUE ", "WAITING  DELAYED  IN FLIGHT  DEAD  WORKERS  OLDEST  PAUSED\n", "audit/log  ", "mail  ", `: the relay\nis down`)
	all := s.objects("ls")
	if len(all) != 2 || all[0]["queue"] != "audit/log" || all[1]["waiting"] != 2.0 || all[1]["paused"] != true || all[1]["pauseReason"] != "the relay\nis down" {
		t.Errorf("%v", all)
	}
	if at, err := time.Parse(time.RFC3339, all[1]["pausedSince"].(string)); err != nil || time.Since(at) > soon {
		t.Errorf("%v, %v", at, err)
	}
	if o := s.object("resume", "mail"); o["done"] != "resumed" || o["queue"] != "mail" || o["count"] != nil {
		t.Errorf("%v", o)
	}
	s.prints([]string{"resume", "mail"}, "mail: resumed\n")
	s.fails(1, "--yes does it without asking", "purge", "mail")
	s.prints([]string{"purge", "mail", "--yes"}, "mail: 2 purged\n")
	if all := s.objects("ls"); len(all) != 1 {
		t.Errorf("%v", all)
	}
}

func TestAWatchCountsAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	s.ok("push", "./mail", "1")
	s.prints([]string{"stats", "./mail", "--watch", "--interval", "1s", "-n", "2"}, "TIME ", "WAITING ", "PAUSED\n", ":", " 1 ", ":", " 1 ")
	if all := s.objects("stats", "./mail", "--watch", "-n", "1"); len(all) != 1 || all[0]["time"] == nil || all[0]["waiting"] != 1.0 {
		t.Errorf("%v", all)
	}
	r := launch(t, "queue", "--endpoints", s.endpoint, "stats", s.root+"/mail", "--watch")
	r.expect("TIME")
	r.signal(syscall.SIGINT)
	if _, code := r.wait(); code != 0 || r.errs.Len() > 0 {
		t.Errorf("code %d, %s", code, &r.errs)
	}
}

func TestABadCommandLineOfQueueIsToldInOneLine(t *testing.T) {
	t.Parallel()
	s := queueShellOn(t, "127.0.0.1:1") // nothing is sent
	for words, args := range map[string][]string{
		`unknown command "bogus"`:                   {"bogus"},
		"-o text: it must be table or json":         {"ls", "-o", "text"},
		`ls: unexpected argument "a"`:               {"ls", "a"},
		"stats: NAME is missing":                    {"stats"},
		"--interval 5ms: it must be a second":       {"stats", "a", "--watch", "--interval", "5ms"},
		"stats: -n -1: it must not be negative":     {"stats", "a", "-n", "-1"},
		"push: NAME is missing":                     {"push"},
		"push: ITEM is missing":                     {"push", "a"},
		"- and an item: only one of them":           {"push", "a", "-", "b"},
		"--id: it names one job, and there may":     {"push", "a", "-", "--id", "x"},
		"--id: it names one job":                    {"push", "a", "b", "c", "--id", "x"},
		"--delay -1s: it must not be negative":      {"push", "a", "b", "--delay", "-1s"},
		"--priority 100: it must be from -99 to 99": {"push", "a", "b", "--priority", "100"},
		"peek: -n -1: it must not be negative":      {"peek", "a", "-n", "-1"},
		"dead: -n -1: it must not be negative":      {"dead", "a", "-n", "-1"},
		"redrive: ID is missing: name some, or":     {"redrive", "a"},
		"redrive: IDs and --all: only one of them":  {"redrive", "a", "b", "--all"},
		"discard: ID is missing":                    {"discard", "a", "--yes"},
		"purge: NAME is missing":                    {"purge", "--yes"},
		"pause: NAME is missing":                    {"pause"},
		`resume: unexpected argument "b"`:           {"resume", "a", "b"},
		"--dial-timeout -1s: it must be positive":   {"ls", "--dial-timeout", "-1s"},
	} {
		s.fails(2, words, args...)
	}
	r := s.fails(1, "no member answers: 127.0.0.1:1: ", "ls", "--dial-timeout", "300ms")
	if strings.Count(r.errs, "\n") != 1 {
		t.Errorf("%q", r.errs)
	}
}

func TestWhatTheLibraryRefusesIsSaidPlainly(t *testing.T) {
	t.Parallel()
	s := newQueueShell(t)
	s.fails(1, `queue name "a//b" refused: it holds an empty segment`, "peek", "a//b")
	s.fails(1, "./mail: item too large: ", "push", "./mail", strings.Repeat("x", queue.MaxItem+1))
	s.fails(1, "./mail: pause: the reason has 1025 bytes, at most 1024", "pause", "./mail", "--reason", strings.Repeat("x", 1025))
	out, errs, code := do(t, "queue")
	for _, words := range []string{"Exit codes:", "ETCDCTL_ENDPOINTS", "  redrive ", "  discard ", "  purge "} {
		if code != 0 || errs != "" || !strings.Contains(out, words) {
			t.Errorf("code %d, stderr %q, no %q in %q", code, errs, words, out)
		}
	}
}
