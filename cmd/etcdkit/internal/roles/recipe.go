package roles

import (
	"errors"
	"fmt"
	"strings"
)

// Recipe is one way to take part in a recipe.
type Recipe struct {
	// Name is what it is called on the command line: queue-work.
	Name string

	// Of is what the name is of that it takes: a queue.
	Of string

	// Does is what those do who have the permissions.
	Does string

	// Others is what they can do to others.
	Others string

	// HasID is set if permissions are fewer where it is known which instance it is, and HasPrefix if services may stand elsewhere.
	HasID, HasPrefix bool

	check func(name string) error
	needs func(p Params) []Permission
}

// Params say which permissions of a recipe are meant.
type Params struct {
	// Name is the lock's, the service's, the queue's. A configuration key that ends in a slash means all keys below it.
	Name string

	// ID is that of an instance, for recipes with HasID. Empty means any.
	ID string

	// Prefix is that of services, for recipes with HasPrefix. Default "services".
	Prefix string
}

// ErrUnknown says that there is no such recipe.
var ErrUnknown = errors.New("unknown recipe")

// All returns all recipes.
func All() []Recipe { return append([]Recipe(nil), table...) }

// Find returns a recipe by its name. Error: ErrUnknown, with the names of those that it may have meant.
func Find(name string) (Recipe, error) {
	var like, all []string
	for _, r := range table {
		if r.Name == name {
			return r, nil
		}
		all = append(all, r.Name)
		if strings.HasPrefix(r.Name, name+"-") {
			like = append(like, r.Name)
		}
	}
	if len(like) == 0 {
		like = all
	}
	return Recipe{}, fmt.Errorf("%w %q: there is %s", ErrUnknown, name, strings.Join(like, ", "))
}

// Needs returns the least permissions that the recipe needs, or an error of a name that it refuses.
func (r Recipe) Needs(p Params) ([]Permission, error) {
	switch {
	case p.ID != "" && !r.HasID:
		return nil, fmt.Errorf("%s has no instances with IDs", r.Name)
	case p.Prefix != "" && !r.HasPrefix:
		return nil, fmt.Errorf("%s has no prefix", r.Name)
	case r.needs == nil:
		if p.Name != "" {
			return nil, fmt.Errorf("%s has no name", r.Name)
		}
		return nil, nil
	}
	if err := r.check(p.Name); err != nil {
		return nil, err
	}
	if p.ID != "" {
		if err := segment("instance", p.ID); err != nil {
			return nil, err
		}
	}
	if p.Prefix == "" {
		p.Prefix = "services"
	} else if err := path("prefix")(p.Prefix); err != nil {
		return nil, err
	}
	return r.needs(p), nil
}
