package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// editor has edit use a shell script, which finds the name of the file in $1.
func editor(t *testing.T, script string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nset -e\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", "sh "+file)
}

func TestAValueIsEditedInAFileThatOnlyItsOwnerCanRead(t *testing.T) {
	s := newShell(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s.ok("put", "./limits", `{"rate": 10}`)
	facts := filepath.Join(t.TempDir(), "facts")
	editor(t, `stat -c '%a %n' "$1" "$(dirname "$1")" > `+facts+`; sed -i s/10/20/ "$1"`)
	s.prints([]string{"edit", "./limits", "--reason", "more", "--author", "ann"}, "./limits: version 2 at revision ", "published")
	s.prints([]string{"history", "./limits", "-n", "1"}, "ann     more")
	text, err := os.ReadFile(facts)
	lines := strings.Fields(string(text))
	if err != nil || len(lines) != 4 || lines[0] != "600" || lines[2] != "700" || filepath.Base(lines[1]) != "limits.json" {
		t.Errorf("%q, %v", text, err)
	}
	editor(t, "true")
	s.prints([]string{"edit", "./limits"}, "./limits: unchanged, version 2")
	if o := s.object("edit", "./limits"); o["changed"] != false {
		t.Errorf("%v", o)
	}
	editor(t, `echo >> "$1"`) // as editors do
	s.prints([]string{"edit", "./limits"}, "./limits: unchanged, version 2")
	editor(t, "exit 3")
	s.fails(1, "exit status 3; nothing was changed", "edit", "./limits")
	editor(t, `printf new > "$1"`)
	s.ok("edit", "./new.txt")
	if got := s.ok("get", "./new.txt"); got != "new" {
		t.Errorf("got %q", got)
	}
	editor(t, "true")
	if r := s.run("edit", "./newer"); r.code != 0 || r.out != "" || !strings.Contains(r.errs, "there is still none") {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestATextThatIsRefusedIsKept(t *testing.T) {
	s := newShell(t)
	t.Setenv("TMPDIR", t.TempDir())
	s.ok("put", "./limits", `{"rate": 10}`)
	kept := func(r *result, text string) {
		t.Helper()
		_, file, _ := strings.Cut(strings.TrimSpace(r.errs), "the text is kept in ")
		got, err := os.ReadFile(file)
		if err != nil || string(got) != text {
			t.Errorf("%q: %q, %v", r.errs, got, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	editor(t, `printf '{"rate": ' > "$1"`)
	kept(s.fails(1, "holds JSON, which the new value is not", "edit", "./limits"), `{"rate": `)
	kept(s.fails(1, "holds JSON, which the new value is not", "edit", "./limits"), `{"rate": `)
	s.ok("edit", "./limits", "--force")
	editor(t, `printf mine > "$1"; `+asCommand+`=1 `+os.Args[0]+` config --endpoints `+s.endpoint+` put `+s.root+`/limits theirs --yes`)
	kept(s.fails(3, "changed by somebody else", "edit", "./limits"), "mine")
	if got := s.ok("get", "./limits"); got != "theirs" {
		t.Errorf("got %q", got)
	}
}
