package config

import (
	"fmt"
	"slices"
	"sync"
)

// subscribers are the parts of a program that take a value together, or not at all.
type subscribers[T any] struct {
	turn sync.Mutex // held while a value is applied, or bound to; guards all below
	all  []*subscriber[T]
}

type subscriber[T any] struct {
	prepare func(old, new T) (commit, abort func(), err error)
}

// prepared is what subscribers have agreed to.
type prepared struct {
	commits []func()
	aborts  []func()
}

// prepare asks all subscribers, in the order in which they were bound. If one refuses, those before it are told in reverse.
// The caller holds turn.
func (s *subscribers[T]) prepare(old, value T) (prepared, error) {
	var p prepared
	for n, sub := range s.all {
		commit, abort, err := sub.ask(old, value)
		if err != nil {
			p.abort()
			return prepared{}, fmt.Errorf("by subscriber %d of %d: %w", n+1, len(s.all), err)
		}
		p.commits, p.aborts = append(p.commits, commit), append(p.aborts, abort)
	}
	return p, nil
}

// ask calls prepare. A panic in it is a refusal.
func (s *subscriber[T]) ask(old, value T) (commit, abort func(), err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Bind's prepare", p)
		}
	}()
	return s.prepare(old, value)
}

func (p prepared) commit() {
	for _, commit := range p.commits {
		if commit != nil {
			commit()
		}
	}
}

func (p prepared) abort() {
	for _, abort := range slices.Backward(p.aborts) {
		if abort != nil {
			abort()
		}
	}
}

// Bind has every new value applied to a part of the program, in two steps, so that all parts run the same one.
//
// prepare is called with the value in use and the new one, after Validate, and makes ready what it takes: a listener is opened, a pool
// is built, nothing is changed. Once all that are bound have agreed, Get returns the new value and then every commit is called, in
// the order of binding; commit cannot fail. If one refuses by an error or a panic, abort is called of those that had agreed, in
// reverse, and the document is refused as by Validate: Get stays, and Err says why. commit and abort may be nil.
//
// Bind applies the present value first, by a call of prepare whose old is the zero T. If that fails, nothing is bound and the
// error is returned. Unbind ends the binding; it waits for calls under way. The functions are called
// one at a time; they must not call Bind, unbind or Close of this Value.
func (v *Value[T]) Bind(prepare func(old, new T) (commit, abort func(), err error)) (unbind func(), err error) {
	s := &v.subscribers
	s.turn.Lock()
	defer s.turn.Unlock()
	sub := &subscriber[T]{prepare}
	var zero T
	commit, _, err := sub.ask(zero, v.Get())
	if err != nil {
		return nil, fmt.Errorf("config %q: bind: %w", v.name, err)
	}
	prepared{commits: []func(){commit}}.commit()
	s.all = append(s.all, sub)
	return func() {
		s.turn.Lock()
		defer s.turn.Unlock()
		s.all = slices.DeleteFunc(s.all, func(other *subscriber[T]) bool { return other == sub })
	}, nil
}
