package doctor

// needs is what the application may do.
type needs struct{}

func declare(recipes, keys []string) (needs, error) { return needs{}, nil }
