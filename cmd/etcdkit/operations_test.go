package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	operationsPage   = "../../docs/operations.md"
	operationsAlerts = "../../docs/monitoring/alerts.yml"
	operationsURL    = "/docs/operations.md#" // what a runbook_url has before the anchor
)

// operationsText reads a file of the documentation, which is to be there.
func operationsText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// operationsHeadings are the page's headings of a level, in the order in which they stand there, and those of a section alone.
func operationsHeadings(page, mark, section string) (all, within []string) {
	in, fenced := false, false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if fenced {
			continue
		}
		if title, is := strings.CutPrefix(line, "## "); is {
			in = title == section
		}
		title, is := strings.CutPrefix(line, mark+" ")
		if !is {
			continue
		}
		all = append(all, title)
		if in {
			within = append(within, title)
		}
	}
	return all, within
}

func TestEveryAlertHasItsSectionInTheRunbookAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	alerts := operationsText(t, operationsAlerts)
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s*- alert:\s*(\S+)\s*$`).FindAllStringSubmatch(alerts, -1) {
		names = append(names, m[1])
	}
	links := regexp.MustCompile(`(?m)^\s*runbook_url:\s*['"]?(\S+?)['"]?\s*$`).FindAllStringSubmatch(alerts, -1)
	if len(names) == 0 || len(links) != len(names) {
		t.Fatalf("%d alerts, %d links to the runbook", len(names), len(links))
	}
	page := operationsText(t, operationsPage)
	all, sections := operationsHeadings(page, "###", "Alerts")
	for i, name := range names {
		if link := links[i][1]; !strings.HasSuffix(link, operationsURL+strings.ToLower(name)) {
			t.Errorf("alert %s is explained at %s", name, link)
		}
		if !slices.Contains(sections, name) {
			t.Errorf("alert %s has no section in docs/operations.md", name)
		}
	}
	for _, title := range sections {
		if !slices.Contains(names, title) {
			t.Errorf("docs/operations.md explains %s, and there is no such alert", title)
		}
	}
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("an anchor stands for two sections: %q", all)
	}
}

// operationsWords splits a line as a shell does, as far as the page needs it: quotes, comments, and what ends a command, which is a
// word of its own.
func operationsWords(line string) (words []string, err error) {
	var word strings.Builder
	some := false
	end := func() {
		if some {
			words = append(words, word.String())
		}
		word.Reset()
		some = false
	}
	quote := rune(0)
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, some = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !some:
			return words, nil
		case r == '|' || r == ';' || r == '&':
			end()
			words = append(words, string(r))
		default:
			some = true
			word.WriteRune(r)
		}
	}
	if end(); quote != 0 {
		err = errors.New("a quote is open")
	}
	return words, err
}

// operationsCommands are the arguments of each etcdkit in a line, whatever stands before it: a schedule, variables, another command.
func operationsCommands(line string) (all [][]string, err error) {
	words, err := operationsWords(line)
	var args []string
	found := false
	for _, w := range append(words, ";") {
		switch {
		case w == "|" || w == ";" || w == "&":
			if found {
				all = append(all, args)
			}
			args, found = nil, false
		case found && !slices.Contains(args, "--") && (strings.HasPrefix(w, ">") || strings.HasPrefix(w, "2>")):
			found = false // where it goes is no argument of it
			all = append(all, args)
		case found:
			args = append(args, w)
		default:
			found = path.Base(w) == "etcdkit"
		}
	}
	return all, err
}

// operationsParse finds the command, and has it take flags and arguments, without running it.
func operationsParse(args []string) error {
	command, rest, err := newRoot(io.Discard).Find(args)
	if err != nil {
		return err
	}
	command.InitDefaultHelpFlag()
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	if help, err := command.Flags().GetBool("help"); err != nil || help {
		return err
	}
	if command.HasSubCommands() && command.Args == nil && command.Flags().NArg() > 0 {
		return fmt.Errorf("%s: unknown command %q", command.CommandPath(), command.Flags().Arg(0))
	}
	return errors.Join(command.ValidateArgs(command.Flags().Args()), command.ValidateRequiredFlags(), command.ValidateFlagGroups())
}

// operationsLines are the page's lines of code: those of fenced blocks, continued ones joined, and whole spans within text that begin
// with etcdkit.
func operationsLines(page string) (fenced, spans []string) {
	in, continued := false, ""
	span := regexp.MustCompile("`(etcdkit [^`]*)`")
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			in = !in
		case !in:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				spans = append(spans, m[1])
			}
		case strings.HasSuffix(line, "\\"):
			continued += strings.TrimSuffix(line, "\\")
		default:
			fenced = append(fenced, continued+line)
			continued = ""
		}
	}
	return fenced, spans
}

func TestEveryCommandOfTheReadmeIsOneThatThereIs(t *testing.T) {
	t.Parallel()
	fenced, _ := operationsLines(operationsText(t, "../../README.md"))
	found := 0
	for _, line := range fenced {
		if strings.HasPrefix(line, "go get ") {
			continue
		}
		commands, err := operationsCommands(line)
		if err != nil && len(commands) > 0 {
			t.Errorf("%s: %v", line, err)
		}
		for _, args := range commands {
			found++
			if err := operationsParse(args); err != nil {
				t.Errorf("%s\n\t%v", line, err)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found", found)
	}
}

func TestEveryCommandOfTheRunbookIsOneThatThereIs(t *testing.T) {
	t.Parallel()
	fenced, spans := operationsLines(operationsText(t, operationsPage))
	named := map[string]int{}
	for _, line := range append(fenced, spans...) {
		commands, err := operationsCommands(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		for _, args := range commands {
			named[args[0]]++
			if err := operationsParse(args); err != nil {
				t.Errorf("%s\n\t%v", line, err)
			}
		}
	}
	for _, c := range newRoot(io.Discard).Commands() {
		if name := c.Name(); !slices.Contains([]string{"demo", "dev", "register"}, name) && named[name] == 0 {
			t.Errorf("docs/operations.md never uses etcdkit %s", name)
		}
	}
}

// What the test above finds, it finds.
func TestACommandThatThereIsNotIsSeenInARunbook(t *testing.T) {
	t.Parallel()
	for line, good := range map[string]bool{
		"etcdkit ls orders/ --watch":                                true,
		"etcdkit lock a --try -q -- rm --bogus || test $? = 124":    true,
		"15 * * * *  me  /usr/bin/etcdkit queue ls -o json | jq -e": true,
		`etcdkit queue pause mail --reason "the relay | is away"`:   true,
		"etcdkit doctor -o json > doctor.json || code=$?":           true,
		"etcdkit snapshot --help":                                   true,
		"etcdkit list":                                              true, // ls, by another name
		"etcdkit bogus":                                             false,
		"etcdkit queue bogus":                                       false,
		"etcdkit queue stats":                                       false, // of which?
		"etcdkit queue stats mail --bogus":                          false,
		"etcdkit inspect orders -n 5":                               false,
		"etcdkit ls | etcdkit inspect":                              false,
		`etcdkit queue pause mail --reason "away`:                   false,
		"etcdkit lock a --bogus -- true":                            false,
	} {
		commands, err := operationsCommands(line)
		for _, args := range commands {
			err = errors.Join(err, operationsParse(args))
		}
		if len(commands) == 0 || (err == nil) != good {
			t.Errorf("%s: %q: %v", line, commands, err)
		}
	}
}
