import Link from 'next/link'

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <nav>
          <Link href="/">home</Link> <Link href="/about">about</Link> <Link href="/products/coffee">coffee</Link>
        </nav>
        {children}
      </body>
    </html>
  )
}
