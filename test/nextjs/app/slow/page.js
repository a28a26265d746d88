import { Suspense } from 'react'
import { connection } from 'next/server'
import { released } from '../gate'

async function Rest() {
  await connection()
  await released()
  return <p>the rest</p>
}

export default function Page() {
  return (
    <Suspense fallback={<p>the first part</p>}>
      <Rest />
    </Suspense>
  )
}
