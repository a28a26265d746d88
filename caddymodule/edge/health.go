package edge

// Available reports whether a request may be sent to the region of that name.
func (a *App) Available(region string) bool { return a.Region(region) != nil }
