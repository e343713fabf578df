package live

import (
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
)

// CutOff tells on standard error when a watch is cut off from etcd, and when it is not any more.
type CutOff struct {
	Use *cli.Use
	is  bool
}

// Note takes in why the watch is cut off, nil if it is not.
func (c *CutOff) Note(why error) {
	switch {
	case why != nil && !c.is:
		c.Use.Say("cut off from etcd: %s", cli.Plainly(why.Error()))
	case why == nil && c.is:
		c.Use.Say("connected again")
	}
	c.is = why != nil
}

// Moment is a line of text that says when.
func Moment(text string) string { return time.Now().Format(time.TimeOnly) + "  " + cli.Visible(text) }
