package doctor

import "context"

func checkTopology(context.Context, *Patient) []Finding { return nil }
