import { cookies } from 'next/headers'

export default async function Page() {
  const name = (await cookies()).get('name')?.value ?? 'nobody'
  return <h1>dashboard of {name}</h1>
}
