package edge

// TenantHome says where the feed has put a tenant: the region, and the epoch of
// that decision, which grows with every move. known is false where the feed says
// nothing of the tenant, and without a feed.
func (a *App) TenantHome(tenant string) (home string, epoch int64, known bool) {
	if a.Feed == nil || a.loaded() != nil || a.detached {
		return "", 0, false
	}
	return a.Feed.follower.TenantHome(tenant)
}
