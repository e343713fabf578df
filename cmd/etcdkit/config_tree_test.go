package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestOneEnvironmentIsPromotedToAnother(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	for _, key := range []string{"mail/limits", "mail/from", "db/pool"} {
		s.ok("put", "./dev/"+key, `{"of": "`+key+`"}`)
	}
	s.ok("put", "./prod/db/pool", `{"of": "prod"}`)
	s.ok("put", "./prod/old", "1")

	all := []string{"--env", s.root, "promote", "dev", "prod"}
	s.prints(append(all, "--dry-run"), "./prod/db/pool differs\n", "-{\"of\": \"prod\"}\n+{\"of\": \"db/pool\"}\n",
		"./prod/mail/from is new\n", "./prod/mail/limits is new\n", "./prod/old is here alone, and stays\n", "It would write 3 keys; 0 keys are equal.\n")
	r := s.fails(1, "--yes does it without asking", all...)
	s.holds(r.errs, "./prod/db/pool differs")
	s.prints([]string{"list", "./prod"}, "db/pool", "old")

	s.fails(1, "mail/none: there is no such key on either side", append(all, "--only", "mail/none", "--yes")...)
	s.prints(append(all, "--only", "mail/from", "--yes", "--reason", "sync"), "./prod/mail/from: version 1 at revision ", "Wrote 1 of 1 key; 0 keys are equal.")
	s.prints(append(all, "--only", "mail", "--except", "mail/limits", "--yes"), "Nothing to do: 1 key is equal.")
	o := s.object(append(all, "--delete", "--yes")...)
	differences, written := o["differences"].([]any), o["written"].([]any)
	if o["from"] != s.root+"/dev" || o["to"] != s.root+"/prod" || o["equal"] != 1.0 || len(differences) != 3 || len(written) != 3 {
		t.Fatalf("%v", o)
	}
	if d := differences[0].(map[string]any); d["kind"] != "differs" || d["key"] != s.root+"/prod/db/pool" || d["fromKey"] != s.root+"/dev/db/pool" ||
		d["paths"].([]any)[0].(map[string]any)["path"] != "of" {
		t.Errorf("%v", d)
	}
	if w := written[2].(map[string]any); w["key"] != s.root+"/prod/old" || w["kind"] != "deleted" || w["version"] != 2.0 {
		t.Errorf("%v", w)
	}
	s.prints(all, "Nothing to do: 3 keys are equal.\n")
	s.fails(2, "FROM and TO are the same", "promote", "./dev", "./dev/")
}

func TestWhatIsExportedIsImported(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./prod/limits", "rate: 10\n")
	s.ok("put", "./prod/mail/from", "ann")
	s.put("./prod/bytes", "\xff")
	export := s.ok("export", "./prod")
	s.holds(export, "etcdkit: config/1\n", "key: \"bytes\"\nbase64:", "key: \"limits\"\nvalue: |\n  rate: 10\n", "key: \"mail/from\"\nvalue: \"ann\"\n")
	file := t.TempDir() + "/prod.yaml"
	if err := os.WriteFile(file, []byte(export), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := s.objects("--env", "./prod", "export"); len(all) != 3 || all[0]["valueBase64"] != "/w==" || all[1]["value"] != "rate: 10\n" {
		t.Errorf("%v", all)
	}
	s.prints([]string{"import", file}, "Nothing to do: 3 keys are equal.")
	s.ok("put", "./prod/limits", "rate: 20\n", "--yes")
	s.ok("put", "./prod/extra", "1")
	s.prints([]string{"import", file, "--dry-run"}, "./prod/extra is here alone, and stays\n", "./prod/limits differs\n", "-rate: 20\n", "+rate: 10\n", "It would write 1 key; 2 keys are equal.")
	s.fails(1, "--yes does it without asking", "import", file)
	s.prints([]string{"import", file, "--yes"}, "./prod/limits: version 3 at", "Wrote 1 of 1 key; 2 keys are equal.")
	s.prints([]string{"import", file, "--yes", "--delete"}, "./prod/extra: version 2 at", "deleted")
	s.in = strings.NewReader(export)
	if o := s.object("import", "-", "--to", "./stage", "--yes"); len(o["written"].([]any)) != 3 || o["to"] != s.root+"/stage" {
		t.Errorf("%v", o)
	}
	if got := s.ok("get", "./stage/limits"); got != "rate: 10\n" {
		t.Errorf("got %q", got)
	}
	s.fails(2, "PREFIX is missing", "export")
	s.fails(1, "key outside of the environment", "--env", "./dev", "import", file, "--yes")
	s.in = strings.NewReader("a: 1\n")
	s.fails(1, "config import: the document that begins at line 1: it does not begin with", "import", "-")
}

func TestChangesAreWatched(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("put", "./a/limits", `{"rate": 10, "old": true}`)
	s.ok("put", "./a/limits", `{"rate": 20, "new": [1]}`, "--yes")
	s.ok("put", "./a/text", "one\n")
	s.ok("put", "./a/text", "two\n", "--yes")
	s.ok("delete", "./a/limits", "--yes")
	s.prints([]string{"watch", "./a/", "--from", "1", "-n", "5"},
		"./a/limits  created  revision ", "+{\"rate\": 10", "./a/limits  changed  revision ", "+new: [1]\n", "-old: true\n", " rate: 10 → 20\n",
		"./a/text  created", "./a/text  changed", "-one\n+two\n", "./a/limits  removed", "-{")
	s.prints([]string{"watch", "./a/text", "--from", "1", "-n", "2"}, "./a/text  created", "./a/text  changed", "-one\n+two\n")
	all := s.objects("watch", "./a/limits", "--from", "1", "-n", "3")
	if len(all) != 3 || all[0]["kind"] != "created" || all[1]["writes"] != 2.0 || all[1]["value"] != `{"rate": 20, "new": [1]}` ||
		all[2]["kind"] != "removed" || all[2]["value"] != nil || all[2]["key"] != s.root+"/a/limits" {
		t.Errorf("%v", all)
	}
}

func TestAWatchGoesOnUntilCtrlC(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	for _, name := range []string{s.root + "/", s.root + "/limits"} {
		from := strconv.FormatInt(s.put("./limits", "1"), 10)
		r := launch(t, "config", "--endpoints", s.endpoint, "watch", name, "--from", from)
		r.expect("+1")
		s.put("./limits", "2")
		r.expect("+2")
		r.signal(syscall.SIGINT)
		if out, code := r.wait(); code != 0 || out != "" || r.errs.Len() > 0 {
			t.Errorf("code %d, stdout %q, stderr %q", code, out, &r.errs)
		}
	}
}
