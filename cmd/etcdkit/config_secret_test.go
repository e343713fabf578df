package main

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyring writes a keyring of one key.
func keyring(t *testing.T) string {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	file := filepath.Join(t.TempDir(), "keyring")
	if err := os.WriteFile(file, []byte("one "+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestASecretIsSealedAndStaysSealed(t *testing.T) {
	s, ring := newShell(t), keyring(t)
	editor(t, "exit 9")
	const first, second, third = "hunter2", "correct horse", "correct mare"
	seen := ""
	see := func(r *result) {
		t.Helper()
		if r.code != 0 {
			t.Fatalf("%q: %s", r.args, r.errs)
		}
		seen += r.out + r.errs
	}
	see(s.run("put", "./secret", first, "--keyring", ring))
	sealed := s.ok("get", "./secret")
	if !strings.HasPrefix(sealed, "etcdkit:sealed:v1:one:") {
		t.Errorf("etcd holds %q", sealed)
	}
	if got := s.ok("get", "./secret", "--keyring", ring); got != first {
		t.Errorf("opened, it is %q", got)
	}
	s.fails(1, "is sealed, and there is no keyring to seal the new value", "put", "./secret", second, "--yes").noSecret(second)
	s.fails(1, "--seal needs a keyring", "put", "./other", second, "--seal").noSecret(second)
	s.fails(1, "is sealed, and there is no keyring to open it", "edit", "./secret")

	t.Setenv("ETCDKIT_KEYRING", ring)
	see(s.run("put", "./secret", first)) // it differs each time it is sealed, and says the same
	see(s.run("put", "./secret", second, "--yes"))
	editor(t, `sed -i s/horse/mare/ "$1"`)
	see(s.run("edit", "./secret"))
	see(s.run("history", "./secret"))
	see(s.run("list", "./"))
	see(s.run("put", "./plain", "open to all"))
	if got := s.ok("get", "./plain"); got != "open to all" {
		t.Errorf("what nobody wanted sealed is %q", got)
	}
	s.fails(1, "--yes does it without asking", "put", "./plain", "open to all", "--seal")
	see(s.run("put", "./plain", "open to all", "--seal", "--yes"))
	if o := s.object("get", "./secret"); o["value"] != third || o["sealed"] != true || o["version"] != 3.0 {
		t.Errorf("%v", o)
	}
	s.prints([]string{"diff", "./secret"}, "-"+second, "+"+third)
	s.prints([]string{"watch", "./secret", "--from", "1", "-n", "3"}, "+"+first, "-"+first, "+"+second, "-"+second, "+"+third)

	t.Setenv("ETCDKIT_KEYRING", "")
	see(s.run("diff", "./secret"))
	see(s.run("export", "./"))
	for _, secret := range []string{first, second, third} {
		if strings.Contains(seen, secret) {
			t.Errorf("%q is shown in\n%s", secret, seen)
		}
	}
	s.fails(1, "it does not open: sealed with another key", "get", "./secret", "--keyring", keyring(t))
	r := s.fails(1, "seal the value anew and publish it", "promote", s.root, s.root+"-eu", "--yes")
	r.noSecret(third)
	s.prints([]string{"promote", s.root, s.root + "-eu", "--yes", "--except", "secret", "--except", "plain"}, "Nothing to do")
	s.ok("put", s.root+"-eu/secret", third, "--keyring", ring)
	s.prints([]string{"promote", s.root, s.root + "-eu", "--only", "secret", "--keyring", ring}, "Nothing to do: 1 key is equal.")
	s.fails(1, "does not open", "put", s.root+"-eu/secret", sealed, "--yes", "--keyring", ring)
}
