package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAValueIsPutAndReadAsItIs(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.prints([]string{"put", "./a/limits", "{\"rate\": 10}\n", "--reason", "first", "--author", "ann@desk"}, "./a/limits: version 1 at revision ", ", published\n")
	if got := s.ok("get", "./a/limits"); got != "{\"rate\": 10}\n" {
		t.Errorf("got %q", got)
	}
	s.in = strings.NewReader("from a pipe")
	s.ok("put", "./a/text", "-")
	if r := s.run("get", "./a/text", "-v"); r.out != "from a pipe" || !strings.Contains(r.errs, "version 1 at revision ") {
		t.Errorf("stdout %q, stderr %q", r.out, r.errs)
	}
	o := s.object("get", "./a/limits")
	if o["key"] != s.root+"/a/limits" || o["version"] != 1.0 || o["kind"] != "published" || o["author"] != "ann@desk" ||
		o["reason"] != "first" || o["value"] != "{\"rate\": 10}\n" || o["size"] != 13.0 || o["revision"].(float64) < 2 {
		t.Errorf("%v", o)
	}
	if at, err := time.Parse(time.RFC3339, o["time"].(string)); err != nil || time.Since(at) > soon {
		t.Errorf("time %v, %v", o["time"], err)
	}
	s.put("./a/bytes", "\xff\x00")
	if o := s.object("get", "./a/bytes"); o["valueBase64"] != "/wA=" || o["value"] != nil || o["kind"] != "outside" {
		t.Errorf("%v", o)
	}
	if got := s.ok("get", "./a/bytes"); got != "\xff\x00" {
		t.Errorf("got %q", got)
	}
	s.prints([]string{"list", "./a"}, "KEY ", "REVISION  WRITES\n", "./a/bytes ", "./a/limits ", "./a/text ")
	if all := s.objects("list", "./a/"); len(all) != 3 || all[1]["key"] != s.root+"/a/limits" || all[1]["writes"] != 1.0 {
		t.Errorf("%v", all)
	}
	if r := s.run("list", "./none"); r.code != 0 || r.out != "" || r.errs != "no keys\n" {
		t.Errorf("%+v", r)
	}
	s.fails(1, "./a/none: key does not exist as of revision ", "get", "./a/none")
}

func TestWithAnEnvironmentKeysAreBelowItAndNoOtherIsWritten(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("--env", "./prod", "put", "mail/limits", "1")
	s.ok("--env", "./prod/", "put", "./prod/mail/from", "2")
	if got := s.ok("get", "./prod/mail/limits"); got != "1" {
		t.Errorf("got %q", got)
	}
	if got := s.ok("--env", "./prod", "get", "mail/from"); got != "2" {
		t.Errorf("got %q", got)
	}
	s.prints([]string{"--env", "./prod", "list"}, "./prod/mail/from", "./prod/mail/limits")
	s.fails(1, "key outside of the environment", "--env", "./prod", "put", "./dev/mail/limits", "3")
	s.fails(1, "key outside of the environment", "--env", "./prod", "delete", "./dev/mail/limits", "--yes")
}

func TestNothingIsOverwrittenUnlessSomebodySaysSo(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", "rate: 10\npeers: 2\n")
	r := s.fails(1, "there is no terminal to ask on, and nothing was changed: --yes does it without asking", "put", "./limits", "rate: 20\npeers: 2\n")
	s.holds(r.errs, "--- ./limits, version 1", "+++ the value to be put", "-rate: 10\n", "+rate: 20\n", " peers: 2\n")
	first := s.object("get", "./limits")
	if first["version"] != 1.0 {
		t.Errorf("%v", first)
	}
	s.prints([]string{"put", "./limits", "rate: 20\npeers: 2\n", "--yes"}, "version 2 at revision ")
	s.prints([]string{"put", "./limits", "rate: 20\npeers: 2\n"}, "./limits: unchanged, version 2 at revision ")
	if o := s.object("put", "./limits", "rate: 20\npeers: 2\n"); o["changed"] != false || o["version"] != 2.0 {
		t.Errorf("%v", o)
	}
	was := strconv.FormatFloat(first["revision"].(float64), 'f', -1, 64)
	s.fails(3, "changed by somebody else: expected revision "+was, "put", "./limits", "rate: 30", "--yes", "--expect", was)
	s.fails(3, "expected no such key", "put", "./limits", "rate: 30", "--yes", "--expect", "absent")
	now := s.put("./limits", "rate: 25")
	if o := s.object("put", "./limits", "rate: 30", "--yes", "--expect", strconv.FormatInt(now, 10)); o["changed"] != true || o["version"] != 4.0 {
		t.Errorf("%v", o)
	}
	s.ok("put", "./new", "1", "--expect", "absent")
}

func TestADocumentIsNotReplacedByWhatDoesNotParse(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	for name, test := range map[string]struct{ old, bad, good, words string }{
		"json":   {`{"a": 1}`, `{"a": 1`, `{"a": [2]}`, "holds JSON, which the new value is not: line 1, column 8:"},
		"other":  {`{"a": 1}`, "a: 1", `[]`, "holds JSON, which"},
		"yaml":   {"a: 1\n", "a: [1\n", `{"a": 1}`, "holds YAML, which the new value is not"},
		"bare":   {"a: 1\n", "1", "- a", "holds a document in YAML, and the new value is bare"},
		"toml":   {"a = 1\n[b]\nc = 2\n", "a = \n", "a = 2\n", "holds TOML, which the new value is not: line 1"},
		"scalar": {"8080", "", "any text: [", ""},
	} {
		key := "./" + name
		s.ok("put", key, test.old)
		if test.words != "" {
			s.fails(1, test.words, "put", key, test.bad, "--yes")
		}
		s.ok("put", "--yes", "--", key, test.good)
		s.ok("put", key, test.bad, "--yes", "--force")
		if got := s.ok("get", key); got != test.bad {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestTheHistoryTellsWhoWhenAndWhy(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.fails(1, "./limits: it has no history", "history", "./limits")
	s.ok("put", "./limits", "1", "--author", "ann", "--reason", "first")
	s.put("./limits", "2")
	s.put("./limits", "3")
	s.ok("put", "./limits", "4", "--yes", "--author", "bob")
	s.ok("delete", "./limits", "--yes", "--author", "bob", "--reason", "not needed")
	s.ok("rollback", "./limits", "1", "--yes", "--author", "ann", "--reason", "needed")
	out := s.ok("history", "./limits")
	s.holds(out, "VERSION  REVISION  WHEN", "KIND ", "AUTHOR  REASON\n",
		" 5 ", "rolled back  ann     needed (to version 1)\n",
		" 4 ", "deleted      bob     not needed\n",
		" 3 ", "published    bob\n",
		" 2 ", "outside              a change before it is not known\n",
		" 1 ", "published    ann     first\n")
	all := s.objects("history", "./limits", "-n", "0")
	if len(all) != 5 || all[0]["of"] != 1.0 || all[1]["gone"] != true || all[3]["missed"] != 1.0 || all[4]["size"] != 1.0 || all[4]["value"] != nil {
		t.Errorf("%v", all)
	}
	if all := s.objects("history", "./limits", "-n", "2"); len(all) != 2 || all[1]["kind"] != "deleted" {
		t.Errorf("%v", all)
	}
}

func TestOlderValuesAreFoundByVersionRevisionAndTime(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	first := s.object("put", "./limits", "1")
	s.ok("put", "./limits", "2", "--yes")
	if got := s.ok("get", "./limits", "--version", "1"); got != "1" {
		t.Errorf("version 1 is %q", got)
	}
	if got := s.ok("get", "./limits", "--rev", strconv.FormatFloat(first["revision"].(float64), 'f', -1, 64)); got != "1" {
		t.Errorf("it was %q", got)
	}
	if got := s.ok("get", "./limits", "--at", "0s ago"); got != "2" {
		t.Errorf("now it is %q", got)
	}
	if o := s.object("get", "./limits", "--at", first["time"].(string)); o["value"] != "1" || o["version"] != 1.0 {
		t.Errorf("at its time it was %v", o)
	}
	s.fails(1, "no such version: 9; the oldest that is kept is 1, the newest is 2", "get", "./limits", "--version", "9")
	s.fails(1, "the oldest that is kept is 1", "get", "./limits", "--at", "3d")
	s.fails(1, "get: revision 1000000000 is not there yet", "get", "./limits", "--rev", "1000000000")
	s.fails(1, "./limits: key does not exist as of revision 1", "get", "./limits", "--rev", "1")
	s.ok("delete", "./limits", "--yes")
	s.fails(1, "./limits: key does not exist: version 3 at revision", "get", "./limits")
	s.fails(1, "./limits: did not exist as of version 3", "get", "./limits", "--version", "3")
}

func TestWhatWasCompactedNamesTheOldestThatCanBeRead(t *testing.T) {
	t.Parallel()
	s := shellOn(t, ownEtcd(t))
	s.ok("put", "./limits", "1")
	oldest := s.put("./limits", "2")
	if _, err := s.client().Compact(t.Context(), oldest); err != nil {
		t.Fatal(err)
	}
	words := "revision 2 was compacted, the oldest that can be read is " + strconv.FormatInt(oldest, 10)
	s.fails(1, words, "get", "./limits", "--rev", "2")
	s.fails(1, words, "watch", "./limits", "--from", "2")
	s.fails(1, words, "watch", "./", "--from", "2")
	s.prints([]string{"watch", "./limits", "--from", strconv.FormatInt(oldest, 10), "-n", "1"}, "./limits  changed  revision ", "+2\n")
	if got := s.ok("get", "./limits", "--version", "1"); got != "1" {
		t.Errorf("the history has %q", got)
	}
}

func TestADifferenceIsShownByLinesAndPaths(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.fails(1, "./limits: key does not exist", "diff", "./limits")
	s.ok("put", "./limits", `{"rate": 10, "peers": ["a", "b"]}`, "--author", "ann")
	s.prints([]string{"diff", "./limits"}, "--- ./limits, none before\n", "+++ ./limits, version 1", "by ann", "\n+{\"rate\": 10")
	s.ok("put", "./limits", `{"rate": 20, "peers": ["a", "b"], "zone": "eu"}`, "--yes")
	s.ok("put", "./limits", `{"rate": 20, "peers": ["a"], "zone": "eu"}`, "--yes")
	s.prints([]string{"diff", "./limits"}, "--- ./limits, version 2", "+++ ./limits, version 3", "\n-{", "\n+{")
	s.prints([]string{"diff", "./limits", "1"}, "version 1", "version 3")
	o := s.object("diff", "./limits", "1", "2")
	paths := o["paths"].([]any)
	if o["a"] != 1.0 || o["b"] != 2.0 || o["same"] != false || o["format"] != "json" || len(paths) != 2 {
		t.Fatalf("%v", o)
	}
	if p := paths[0].(map[string]any); p["path"] != "rate" || p["old"] != 10.0 || p["new"] != 20.0 {
		t.Errorf("%v", p)
	}
	if p := paths[1].(map[string]any); p["path"] != "zone" || p["old"] != nil || p["new"] != "eu" {
		t.Errorf("%v", p)
	}
	if r := s.run("diff", "./limits", "3", "3"); r.code != 0 || r.out != "" || !strings.Contains(r.errs, "are the same") {
		t.Errorf("%+v", r)
	}
	s.ok("delete", "./limits", "--yes")
	s.prints([]string{"diff", "./limits"}, "version 3", "version 4", "deleted", "\n-{")
	s.fails(1, "no such version: 7", "diff", "./limits", "7")
}

func TestARollbackIsANewVersion(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./limits", "1")
	s.ok("delete", "./limits", "--yes", "--reason", "gone")
	s.ok("put", "./limits", "3")
	r := s.fails(1, "--yes does it without asking", "rollback", "./limits", "1")
	s.holds(r.errs, "--- ./limits, version 3", "+++ version 1", "-3\n", "+1\n")
	s.prints([]string{"rollback", "./limits", "1", "--yes"}, "./limits: version 4 at revision ", "rolled back")
	s.prints([]string{"rollback", "./limits", "1", "--yes"}, "./limits: unchanged, version 4")
	if o := s.object("rollback", "./limits", "2", "--yes"); o["version"] != 5.0 || o["gone"] != true || o["of"] != 2.0 || o["changed"] != true {
		t.Errorf("%v", o)
	}
	s.fails(1, "./limits: key does not exist", "get", "./limits")
	s.fails(1, "no such version: 9", "rollback", "./limits", "9", "--yes")
	s.fails(1, "key does not exist", "delete", "./limits", "--yes")
}
