package configcli

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/config"
)

// stepsFlag gathers the steps of a rollout, in the order in which they stand on the command line.
type stepsFlag struct {
	steps *[]config.Step
	parse func(part string) (config.Step, error)
	kind  string
}

// String is empty: there is no default.
func (stepsFlag) String() string { return "" }

// Type is what stands for the value in the help.
func (f stepsFlag) Type() string { return f.kind }

// timing is what may follow the part of the instances: for how long, and how many at least.
var timing = regexp.MustCompile(`^(.*?)(?::((?:[0-9.]+[a-zµ]+)+|0)(?::([0-9]+))?)?$`)

// Set adds a step.
func (f stepsFlag) Set(text string) error {
	m := timing.FindStringSubmatch(text)
	if m == nil {
		return errors.New("it must be one line")
	}
	step, err := f.parse(m[1])
	if err != nil {
		return err
	}
	if m[2] != "" {
		if step.Soak, err = time.ParseDuration(m[2]); err != nil {
			return fmt.Errorf("the soak %q is no duration, as 30s is", m[2])
		}
	}
	if m[3] != "" {
		if step.MinReports, err = strconv.Atoi(m[3]); err != nil {
			return fmt.Errorf("%s is too many", m[3])
		}
	}
	*f.steps = append(*f.steps, step)
	return nil
}

// percent reads a step by percent.
func percent(part string) (config.Step, error) {
	number, ok := strings.CutSuffix(part, "%")
	p, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(p > 0 && p <= 100) {
		return config.Step{}, errors.New("it must be a part above 0% and up to 100%, and may be followed by a soak: 10%:30s")
	}
	return config.Step{Percent: p}, nil
}

// labels reads a step by labels.
func labels(part string) (config.Step, error) {
	s := config.Step{Labels: map[string]string{}}
	for pair := range strings.SplitSeq(part, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return s, errors.New("it must be NAME=VALUE, several with commas between, and may be followed by a soak: zone=eu,tier=web:30s")
		}
		s.Labels[name] = value
	}
	return s, nil
}

// partOf is the part of the instances that a step is for.
func partOf(s config.Step) string {
	if len(s.Labels) == 0 {
		return strconv.FormatFloat(s.Percent, 'f', -1, 64) + " %"
	}
	pairs := make([]string, 0, len(s.Labels))
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		pairs = append(pairs, name+"="+s.Labels[name])
	}
	return strings.Join(pairs, ",")
}

// stepText is a step in words.
func stepText(s config.Step) string {
	text := partOf(s)
	if s.Soak > 0 {
		text += ", soak " + s.Soak.String()
	}
	if s.MinReports > 1 {
		text += fmt.Sprintf(", at least %d instances", s.MinReports)
	}
	return text
}
